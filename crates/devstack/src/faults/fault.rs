//! The kinds of faults.

use serde::{Deserialize, Serialize};

/// A fault of a process or a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Process: SIGKILL. The process is restarted after a second.
    Kill,
    /// Process: its signal to stop: SIGTERM, of PostgreSQL SIGINT. The process is restarted
    /// a second after its end.
    Terminate,
    /// Process: SIGSTOP to the process and its children. Connections stay
    /// open.
    Freeze,
    /// Process: SIGCONT, which ends `freeze`.
    Thaw,
    /// Process: SIGKILL without a restart until `release`.
    Hold,
    /// Process: restart after `hold`.
    Release,
    /// Broker: SIGKILL, then removal of its data, then a restart unless the
    /// process is held.
    Wipe,
    /// Link: end of all other faults of links.
    Pass,
    /// Link: connections are reset. New ones are accepted.
    Cut,
    /// Link: connections are reset, and new ones are refused.
    Refuse,
    /// Link: connections stay open and new ones are accepted, but no data
    /// arrives.
    Silence,
    /// Link: present connections stay open and silent for ever, also after `pass`. New ones
    /// pass. It stands for a host that vanished and came back, or for a lost NAT entry.
    Vanish,
    /// Link: connections are reset, and new ones go to this port of this machine, until `pass`.
    /// It stands for a failover, or for a server whose address changes.
    Redirect(u16),
    /// Link: data from the server waits until `pass`. Data from the client arrives.
    SilenceResponses,
    /// Link: data from the client waits until `pass`. Data from the server arrives.
    SilenceRequests,
    /// Link: data arrives later, by this number of milliseconds in each
    /// direction.
    Delay(u32),
    /// Link: throughput in bytes per second, in each direction.
    Throttle(u32),
}

impl Fault {
    pub(super) const fn is_for_links(self) -> bool {
        matches!(
            self,
            Self::Pass
                | Self::Cut
                | Self::Refuse
                | Self::Silence
                | Self::Vanish
                | Self::Redirect(_)
                | Self::SilenceResponses
                | Self::SilenceRequests
                | Self::Delay(_)
                | Self::Throttle(_)
        )
    }
}
