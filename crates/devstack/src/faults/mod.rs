//! Faults on purpose: processes that are killed, frozen or kept away, and
//! networks that are cut, slow or silent. Only a stack that was started for it
//! has them: its services reach their servers over [`link`]s, and its
//! supervisor takes orders on a port of its own.
//!
//! Nothing is simulated: a kill is SIGKILL, a link is a TCP connection in two
//! halves, and what is wiped is removed from the disk.

mod client;
mod control;
mod link;
mod network;

use serde::{Deserialize, Serialize};

pub use client::{FaultClient, Target};
pub(crate) use control::{Control, ProcessTarget, Targets};
pub(crate) use network::Network;

/// What is done to a process or a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Process: SIGKILL. It is started again after a second.
    Kill,
    /// Process: SIGTERM. It is started again a second after its end.
    Terminate,
    /// Process: SIGSTOP, to it and its children: it stays where it is,
    /// connections open.
    Freeze,
    /// Process: SIGCONT.
    Thaw,
    /// Process: SIGKILL, and not started again until `release`.
    Hold,
    /// Process: started again after `hold`.
    Release,
    /// Broker: SIGKILL, its data is removed, and it is started again, unless
    /// it is held.
    Wipe,
    /// Link: as if nothing had been; the other way round of all that follow.
    Pass,
    /// Link: its connections are reset; new ones go through.
    Cut,
    /// Link: its connections are reset, and new ones refused.
    Refuse,
    /// Link: connections are open and opened, and nothing comes through.
    Silence,
    /// Link: everything arrives so many milliseconds later, each way.
    Delay(u32),
    /// Link: so many bytes a second, each way.
    Throttle(u32),
}

impl Fault {
    /// Whether it is one of links, not of processes.
    const fn is_of_links(self) -> bool {
        matches!(
            self,
            Self::Pass
                | Self::Cut
                | Self::Refuse
                | Self::Silence
                | Self::Delay(_)
                | Self::Throttle(_)
        )
    }
}

/// Whether a pattern, in which `*` stands for anything, fits a name.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    name.strip_prefix(start).is_some_and(|left| {
        (0..=left.len()).any(|at| left.get(at..).is_some_and(|it| fits(rest, it)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, name) in [
            ("nats", "nats"),
            ("*", "account-service-0/nats"),
            ("*/nats*", "account-service-0/nats-2"),
            ("transaction-service-*/postgres", "transaction-service-1/postgres"),
            ("a*b*c", "a-b-b-c"),
        ] {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("nats", "nats-0"), ("", "nats"), ("*/nats", "a/nats-1")] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }
}
