//! The limits of the proxy's clients. They are those of the services, which see one client only:
//! the proxy.

use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Time limit for the first byte of a connection, and for a head from its first byte.
const HEAD: Duration = Duration::from_secs(10);
/// Time limit of a connection without a request, and of a client that reads no more of its
/// response.
pub(super) const IDLE: Duration = Duration::from_secs(75);

/// Maximum connections, if there are enough descriptors.
const MAX_CONNECTIONS: u64 = 8192;
/// Descriptors for readiness checks, logs and the rest of the supervisor.
const RESERVED: u64 = 256;

#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) head: Duration,
    pub(super) idle: Duration,
    /// Open connections. Further ones wait in the kernel.
    pub(super) connections: usize,
}

impl Limits {
    /// The limits of this process. Raises its limit of descriptors as far as the system permits.
    pub(super) fn of_process() -> Self {
        let descriptors = getrlimit(Resource::RLIMIT_NOFILE)
            .map_or(MAX_CONNECTIONS, |(soft, hard)| {
                setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_or(soft, |()| hard)
            });
        Self { head: HEAD, idle: IDLE, connections: connections(descriptors) }
    }
}

/// A client may have a connection to a replica in use, and another one that is idle.
fn connections(descriptors: u64) -> usize {
    let most = (descriptors.saturating_sub(RESERVED) / 3).clamp(16, MAX_CONNECTIONS);
    usize::try_from(most).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_replicas_and_the_supervisor() {
        let limits = [0, 1024, 20_000, u64::MAX].map(connections);
        assert_eq!(limits, [16, 256, 6581, 8192]);
    }
}
