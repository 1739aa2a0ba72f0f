//! The stack's addresses: free TCP ports of the loopback interface.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener},
};

use anyhow::{Context, Result};
use ring::rand::{SecureRandom, SystemRandom};

/// The only host of a stack. It is written as in a URL: `127.0.0.1`, `[::1]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loopback {
    /// 127.0.0.1
    V4,
    /// ::1
    V6,
}

impl Loopback {
    /// The address.
    pub(crate) const fn ip(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Self::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
        }
    }
}

impl fmt::Display for Loopback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "127.0.0.1",
            Self::V6 => "[::1]",
        })
    }
}

/// Below the range of ports for outgoing connections on Linux (32768 and up).
/// So a process finds its port still free when it is restarted a second after
/// its death.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;
const ATTEMPTS: usize = 1_000;

/// A set of different ports. Each is bound until this value is dropped: drop
/// it just before starting the processes.
#[derive(Debug)]
pub(crate) struct Ports {
    host: Loopback,
    held: Vec<TcpListener>,
}

impl Ports {
    /// No ports of this host yet.
    pub(crate) const fn new(host: Loopback) -> Self {
        Self { host, held: Vec::new() }
    }

    /// The host of the ports.
    pub(crate) const fn host(&self) -> Loopback {
        self.host
    }

    /// Picks one more free port.
    ///
    /// # Errors
    /// If many attempts find no free port.
    pub(crate) fn take(&mut self) -> Result<u16> {
        let listener = listen_on_free_port(self.host)?;
        let port = listener.local_addr()?.port();
        self.held.push(listener);
        Ok(port)
    }
}

/// Listens on a random free port of the range.
///
/// # Errors
/// If many attempts find no free port.
pub(crate) fn listen_on_free_port(host: Loopback) -> Result<TcpListener> {
    let random = SystemRandom::new();
    for _ in 0..ATTEMPTS {
        let mut bytes = [0; 2];
        random.fill(&mut bytes).ok().context("the system provides no random numbers")?;
        let port = FIRST.saturating_add(u16::from_le_bytes(bytes) % COUNT);
        if let Ok(listener) = TcpListener::bind((host.ip(), port)) {
            return Ok(listener);
        }
    }
    anyhow::bail!("no free TCP port from {FIRST} on at {host} after {ATTEMPTS} attempts")
}
