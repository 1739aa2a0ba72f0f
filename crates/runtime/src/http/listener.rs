//! Accepts connections for the API and the admin port, and limits them by the file
//! descriptors and the memory of the process.
//!
//! Clients must not use up the descriptors: the process would lose its probes and could not
//! connect again to the database and the broker. So a part is reserved for these.

use std::{
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr},
    task::Poll,
    time::Duration,
};

use anyhow::Context;
use metrics::{counter, describe_counter};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    time::Instant,
};

use super::address_places::{AddressPlace, AddressPlaces};

const REFUSED: &str = "passbook_http_connections_refused_total";

/// Maximum open connections of clients, if there are enough descriptors.
const MAX_CONNECTIONS: u64 = 20_000;
/// Minimum of it, however few descriptors there are.
const MIN_CONNECTIONS: u64 = 16;
/// Descriptors reserved for the database, the broker, the admin port and files: a quarter,
/// within these bounds.
const RESERVED: (u64, u64) = (128, 2048);
/// Memory of an open connection between two requests, in bytes. At most half of the memory is
/// for these.
const CONNECTION_MEMORY: u64 = 16 * 1024;
/// Pause after a failure. Without it, the loop would use a whole processor: a connection
/// that can't be accepted stays in the kernel's queue.
const RETRY_AFTER: Duration = Duration::from_millis(50);
/// Failures are logged this often at most.
const LOG_EVERY: Duration = Duration::from_secs(5);

/// Maximum connections that the kernel holds for a socket until they are accepted. Linux permits
/// no more by default (`net.core.somaxconn`).
const QUEUE: u32 = 4096;
/// Sockets that listen at an address. Each has its own queue, and the kernel spreads connections.
const SOCKETS: usize = 4;

/// What listens at an address.
///
/// A replica that pauses for a moment, as under a CPU limit, or has thousands of new connections at
/// once, loses those that no queue holds. Their clients repeat them after a second.
#[derive(Debug)]
pub struct Listening {
    address: SocketAddr,
    sockets: Vec<TcpListener>,
}

/// Listens at an address.
///
/// # Errors
/// If the address is not free. The error names its setting.
pub fn listen(setting: &str, address: SocketAddr) -> anyhow::Result<Listening> {
    Listening::bind(address).with_context(|| format!("{setting}: listening on {address}"))
}

impl Listening {
    fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = || {
            let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            socket.set_reuseaddr(true)?;
            Ok::<_, io::Error>(socket)
        };
        // The first one shares its address once it has it. So it fails if another process listens
        // there, also one of the same kind.
        let first = socket()?;
        first.bind(address)?;
        first.set_reuseport(true)?;
        let address = first.local_addr()?;
        let mut sockets = vec![first.listen(QUEUE)?];
        for _ in 1..SOCKETS {
            let socket = socket()?;
            socket.set_reuseport(true)?;
            socket.bind(address)?;
            sockets.push(socket.listen(QUEUE)?);
        }
        Ok(Self { address, sockets })
    }

    /// The address, with the port that the system picked for port 0.
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Waits for the next connection. The sockets take turns.
    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        poll_fn(|context| {
            self.sockets.rotate_left(1);
            let mut polled = self.sockets.iter().map(|socket| socket.poll_accept(context));
            polled.find(Poll::is_ready).unwrap_or(Poll::Pending)
        })
        .await
    }
}

/// Accepts connections, and retries after a failure.
#[derive(Debug)]
pub(super) struct Listener {
    listening: Listening,
    /// What listens, for the log.
    name: &'static str,
    logged: Option<Instant>,
    /// The share of each address, if it is limited.
    addresses: Option<AddressPlaces>,
}

impl Listener {
    pub(super) const fn new(listening: Listening, name: &'static str) -> Self {
        Self { listening, name, logged: None, addresses: None }
    }

    /// Limits the connections of each address.
    pub(super) fn limited(self, addresses: Option<AddressPlaces>) -> Self {
        describe_counter!(REFUSED, "Connections closed because their address has its share.");
        counter!(REFUSED).increment(0);
        Self { addresses, ..self }
    }

    /// Waits for the next connection, and closes those of an address that has its share.
    pub(super) async fn next(&mut self) -> (TcpStream, IpAddr, AddressPlace) {
        loop {
            let (socket, peer) = match self.listening.accept().await {
                Ok((socket, peer)) => (socket, peer.ip()),
                Err(error) => {
                    self.failed(&error).await;
                    continue;
                }
            };
            let place = match &self.addresses {
                Some(addresses) => addresses.take(peer),
                None => Some(AddressPlace::UNCOUNTED),
            };
            let Some(place) = place else {
                counter!(REFUSED).increment(1);
                if self.may_log() {
                    let (listener, address) = (self.name, peer);
                    tracing::warn!(listener, %address, "an address has its share of connections");
                }
                continue;
            };
            if let Err(error) = socket.set_nodelay(true) {
                tracing::debug!(%error, "setting TCP_NODELAY failed");
            }
            return (socket, peer, place);
        }
    }

    /// Transient: no descriptors, or a client that disconnected.
    async fn failed(&mut self, error: &io::Error) {
        if self.may_log() {
            tracing::warn!(listener = self.name, %error, "accepting a connection failed; retrying");
        }
        tokio::time::sleep(RETRY_AFTER).await;
    }

    fn may_log(&mut self) -> bool {
        let may_log = self.logged.is_none_or(|logged| logged.elapsed() >= LOG_EVERY);
        if may_log {
            self.logged = Some(Instant::now());
        }
        may_log
    }
}

/// Raises the limit of descriptors as far as the system permits, and returns the maximum of
/// connections that leaves the reserved ones.
pub(super) fn raise_and_limit() -> usize {
    let descriptors = raised().unwrap_or_else(|error| {
        tracing::warn!(%error, "the limit of file descriptors can't be read");
        MAX_CONNECTIONS
    });
    let memory = memory_limit();
    let connections = connections(descriptors).min(connections_in(memory));
    if connections < MAX_CONNECTIONS {
        tracing::info!(
            descriptors,
            memory,
            connections,
            "file descriptors or memory limit the open connections"
        );
    }
    usize::try_from(connections).unwrap_or(usize::MAX)
}

/// Maximum connections of the admin port: half of the reserved descriptors. Probes and readers of the
/// metrics need few, but silent ones are accepted as fast as they come while there are more places
/// than may wait for a head. Where accepting waits, the kernel drops connections, and their clients
/// try again after a second.
pub(super) fn admin_limit() -> usize {
    let descriptors = raised().unwrap_or(MAX_CONNECTIONS);
    usize::try_from(reserved(descriptors) / 2).unwrap_or(usize::MAX)
}

/// Sets the soft limit to the hard one. Many systems start processes with a soft limit of
/// 1,024, for the sake of programs that use `select`.
fn raised() -> nix::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        tracing::warn!(%error, soft, hard, "the limit of file descriptors can't be raised");
        return Ok(soft);
    }
    Ok(hard)
}

fn reserved(descriptors: u64) -> u64 {
    let (least, most) = RESERVED;
    (descriptors / 4).clamp(least, most)
}

fn connections(descriptors: u64) -> u64 {
    descriptors.saturating_sub(reserved(descriptors)).clamp(MIN_CONNECTIONS, MAX_CONNECTIONS)
}

/// The memory limit of the container in bytes, if it has one (cgroup version 2).
pub(super) fn memory_limit() -> Option<u64> {
    std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok()?.trim().parse().ok()
}

fn connections_in(memory: Option<u64>) -> u64 {
    let most = memory.map_or(MAX_CONNECTIONS, |memory| memory / 2 / CONNECTION_MEMORY);
    most.clamp(MIN_CONNECTIONS, MAX_CONNECTIONS)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::http::address::{AddressConfig, TrustedProxies};

    #[tokio::test]
    async fn an_address_is_shared_by_the_sockets_of_one_process_only() {
        let listening = Listening::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = listening.local_addr();
        let refused = listen("PASSBOOK_LISTEN", address).unwrap_err();
        assert!(format!("{refused:#}").contains("in use"), "{refused:#}");
        let mut clients = Vec::new();
        for _ in 0..64 {
            clients.push(TcpStream::connect(address).await.unwrap());
        }
        for socket in &listening.sockets {
            let accepted = tokio::time::timeout(Duration::from_secs(5), socket.accept());
            accepted.await.expect("each socket has connections").unwrap();
        }
    }

    #[tokio::test]
    async fn an_address_has_a_share_of_the_connections_and_a_trusted_proxy_any_number() {
        let listening = Listening::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = listening.local_addr();
        let config = AddressConfig {
            trusted_proxies: TrustedProxies::parse("127.0.0.3").unwrap(),
            failed_token_limit: 0,
            address_connections: 50,
        };
        let places = AddressPlaces::new(&config, 5);
        let mut listener = Listener::new(listening, "a test").limited(places);
        let connect = async |host| {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind((Ipv4Addr::new(127, 0, 0, host), 0).into()).unwrap();
            socket.connect(address).await.unwrap()
        };
        let mut open = Vec::new();
        for host in [1, 1, 1, 2, 3, 3, 3] {
            open.push(connect(host).await);
        }
        let mut accepted = Vec::new();
        for _ in 0..6 {
            accepted.push(listener.next().await);
        }
        let of = |host| {
            accepted.iter().filter(|(_, peer, _)| *peer == IpAddr::from([127, 0, 0, host])).count()
        };
        assert_eq!([1, 2, 3].map(of), [2, 1, 3]);
        // A closed connection makes room.
        accepted.retain(|(_, peer, _)| *peer != IpAddr::from([127, 0, 0, 1]));
        open.push(connect(1).await);
        let next = tokio::time::timeout(Duration::from_secs(5), listener.next());
        assert!(next.await.is_ok());
    }

    #[test]
    fn connections_leave_descriptors_for_the_rest_of_the_process() {
        let limits = [64, 256, 1024, 20_000, 1_048_576, u64::MAX].map(connections);
        assert_eq!(limits, [16, 128, 768, 17_952, 20_000, 20_000]);
    }

    #[test]
    fn connections_fit_half_of_the_memory() {
        let limits = [Some(1), Some(128 << 20), Some(4 << 30), None].map(connections_in);
        assert_eq!(limits, [16, 4096, 20_000, 20_000]);
    }
}
