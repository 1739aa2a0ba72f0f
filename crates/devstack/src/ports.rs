//! The stack's addresses: free TCP ports of 127.0.0.1.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, Result};
use ring::rand::{SecureRandom, SystemRandom};

/// The only host of the stack.
pub(crate) const HOST: &str = "127.0.0.1";

/// Below the range of ports for outgoing connections on Linux (32768 and up).
/// So a process finds its port still free when it is restarted a second after
/// its death.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;
const ATTEMPTS: usize = 1_000;

/// A set of different ports. Each is bound until this value is dropped: drop
/// it just before starting the processes.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    held: Vec<TcpListener>,
}

impl Ports {
    /// Picks one more free port.
    ///
    /// # Errors
    /// If many attempts find no free port.
    pub(crate) fn take(&mut self) -> Result<u16> {
        let listener = listen_on_free_port()?;
        let port = listener.local_addr()?.port();
        self.held.push(listener);
        Ok(port)
    }
}

/// Listens on a random free port of the range.
///
/// # Errors
/// If many attempts find no free port.
pub(crate) fn listen_on_free_port() -> Result<TcpListener> {
    let random = SystemRandom::new();
    for _ in 0..ATTEMPTS {
        let mut bytes = [0; 2];
        random.fill(&mut bytes).ok().context("the system provides no random numbers")?;
        let port = FIRST.saturating_add(u16::from_le_bytes(bytes) % COUNT);
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return Ok(listener);
        }
    }
    anyhow::bail!("no free TCP port from {FIRST} on at {HOST} after {ATTEMPTS} attempts")
}
