//! What stops a stack: the first signal in order, the second at once. Closing
//! the terminal stops it too, in order, whether or not a signal says so.

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

/// SIGINT, SIGTERM, SIGHUP, and the end of the terminal.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    terminal_closed: Arc<Notify>,
}

impl Signals {
    /// From now on they no longer end this process by themselves.
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

    /// Waits for the first one.
    pub(super) async fn stop(&mut self) {
        let name = tokio::select! {
            name = Self::asked(&mut self.interrupt, &mut self.terminate) => name,
            _ = self.hangup.recv() => "SIGHUP",
            () = self.terminal_closed.notified() => "the terminal is closed",
        };
        info!("{name}: stopping; once more to kill everything at once");
    }

    /// Waits for the second one. A terminal that closes may say so more than
    /// once: that is not one.
    pub(super) async fn kill(&mut self) {
        let name = Self::asked(&mut self.interrupt, &mut self.terminate).await;
        warn!("{name} again: killing everything");
    }

    async fn asked(interrupt: &mut Signal, terminate: &mut Signal) -> &'static str {
        tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        }
    }
}

/// The kernel sends SIGHUP to the first process of a session only. If that is
/// `make`, which waits for us, nobody would pass it on.
fn wait_for_hangup(terminal_closed: &Notify) {
    let stdin = stdin();
    // No events are asked for: a hangup is told all the same, and nothing is read.
    let mut terminal = [PollFd::new(stdin.as_fd(), PollFlags::empty())];
    while let Err(nix::errno::Errno::EINTR) = poll(&mut terminal, PollTimeout::NONE) {}
    terminal_closed.notify_one();
}
