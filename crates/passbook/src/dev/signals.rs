//! The signals that stop a stack: the first one in order, the second at once.

use anyhow::Result;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

/// SIGINT, SIGTERM and SIGHUP.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    /// From now on they no longer end this process by themselves.
    pub(super) fn catch() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the first one.
    pub(super) async fn stop(&mut self) {
        let name = self.next().await;
        info!("{name}: stopping; once more to kill everything at once");
    }

    /// Waits for the second one.
    pub(super) async fn kill(&mut self) {
        let name = self.next().await;
        warn!("{name} again: killing everything");
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hangup.recv() => "SIGHUP",
        }
    }
}
