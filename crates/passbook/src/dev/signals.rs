//! Signals for stopping a stack. The first one stops it gracefully, the second one kills it.
//! Closing the terminal also stops it gracefully, with or without a SIGHUP.

use std::{
    io::{IsTerminal, stdin},
    os::fd::AsFd,
    sync::Arc,
    thread,
};

use anyhow::Result;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
};
use tracing::{info, warn};

/// SIGINT, SIGTERM, SIGHUP, and the closing of the terminal.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    terminal_closed: Arc<Notify>,
}

impl Signals {
    /// Handles the signals from now on; they no longer end this process by themselves.
    pub(super) fn catch() -> Result<Self> {
        let terminal_closed = Arc::new(Notify::new());
        if stdin().is_terminal() {
            let notify = Arc::clone(&terminal_closed);
            thread::spawn(move || wait_for_hangup(&notify));
        }
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            terminal_closed,
        })
    }

    /// Waits for the first signal, or the closing of the terminal.
    pub(super) async fn stop(&mut self) {
        let name = tokio::select! {
            name = Self::interrupt_or_terminate(&mut self.interrupt, &mut self.terminate) => name,
            _ = self.hangup.recv() => "SIGHUP",
            () = self.terminal_closed.notified() => "the terminal was closed",
        };
        info!("{name}: stopping; repeat the signal to kill everything at once");
    }

    /// Waits for the second signal. SIGHUP does not count, because a closing terminal may send it
    /// more than once.
    pub(super) async fn kill(&mut self) {
        let name = Self::interrupt_or_terminate(&mut self.interrupt, &mut self.terminate).await;
        warn!("{name} again: killing everything");
    }

    async fn interrupt_or_terminate(
        interrupt: &mut Signal,
        terminate: &mut Signal,
    ) -> &'static str {
        tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        }
    }
}

/// Waits until the terminal hangs up. The kernel sends SIGHUP only to the first process of a
/// session; `make` as the first process would not pass it on.
fn wait_for_hangup(terminal_closed: &Notify) {
    let stdin = stdin();
    // With no requested events, `poll` still reports a hangup and reads no input.
    let mut terminal = [PollFd::new(stdin.as_fd(), PollFlags::empty())];
    while let Err(nix::errno::Errno::EINTR) = poll(&mut terminal, PollTimeout::NONE) {}
    terminal_closed.notify_one();
}
