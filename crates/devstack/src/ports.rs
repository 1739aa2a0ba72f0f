//! The stack's addresses: free TCP ports of the loopback interface.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use anyhow::{Context, Result};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::net::TcpSocket;

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

/// Below the range of ports for outgoing connections on Linux (32768 and up), so that no
/// connection takes the port of a process that is about to be restarted.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;
const ATTEMPTS: usize = 1_000;

/// A set of different ports. Each is reserved until this value is dropped: no other stack takes
/// it, also while its process is dead. Otherwise a request could reach a stranger's server.
#[derive(Debug)]
pub(crate) struct Ports {
    host: Loopback,
    reserved: Vec<TcpSocket>,
}

impl Ports {
    /// No ports of this host yet.
    pub(crate) const fn new(host: Loopback) -> Self {
        Self { host, reserved: Vec::new() }
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
        let socket = bind(self.host)?;
        // A server with this option, which all have, can listen on the port beside this socket.
        // Another stack binds without it, and fails.
        socket.set_reuseaddr(true)?;
        let port = socket.local_addr()?.port();
        self.reserved.push(socket);
        Ok(port)
    }
}

/// Binds a random port of the range that nobody uses or has reserved.
fn bind(host: Loopback) -> Result<TcpSocket> {
    let random = SystemRandom::new();
    for _ in 0..ATTEMPTS {
        let mut bytes = [0; 2];
        random.fill(&mut bytes).ok().context("the system provides no random numbers")?;
        let port = FIRST.saturating_add(u16::from_le_bytes(bytes) % COUNT);
        let socket = match host {
            Loopback::V4 => TcpSocket::new_v4()?,
            Loopback::V6 => TcpSocket::new_v6()?,
        };
        if socket.bind((host.ip(), port).into()).is_ok() {
            return Ok(socket);
        }
    }
    anyhow::bail!("no free TCP port from {FIRST} on at {host} after {ATTEMPTS} attempts")
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_reserved_port_is_free_for_its_process_and_for_no_other_stack() {
        let mut ports = Ports::new(Loopback::V4);
        let port = ports.take().unwrap();
        let address = (Loopback::V4.ip(), port).into();
        let other = || {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(address).map(drop)
        };
        for _ in 0..2 {
            assert!(other().is_err());
            let process = TcpListener::bind(address).await.unwrap();
            assert!(other().is_err());
            drop(process);
        }
        drop(ports);
        assert!(other().is_ok());
    }
}
