//! Free TCP ports of 127.0.0.1.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, Result};
use ring::rand::{SecureRandom, SystemRandom};

/// Below the range that Linux takes the ports of outgoing connections from
/// (32768 and up): a port picked here is still free when a process that died
/// comes back to it a second later.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;
const ATTEMPTS: usize = 1_000;

/// Ports picked together, so that no two are the same. Each stays bound until
/// this is dropped, which is to be done just before they are used.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    held: Vec<TcpListener>,
}

impl Ports {
    /// One more free port.
    ///
    /// # Errors
    /// When none was found after many tries.
    pub(crate) fn take(&mut self) -> Result<u16> {
        let listener = self.take_listener()?;
        let port = listener.local_addr()?.port();
        self.held.push(listener);
        Ok(port)
    }

    /// One more free port, listened on by whoever asks.
    ///
    /// # Errors
    /// When none was found after many tries.
    pub(crate) fn take_listener(&self) -> Result<TcpListener> {
        let random = SystemRandom::new();
        for _ in 0..ATTEMPTS {
            let mut bytes = [0; 2];
            random.fill(&mut bytes).ok().context("no random numbers from the system")?;
            let port = FIRST.saturating_add(u16::from_le_bytes(bytes) % COUNT);
            if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
                return Ok(listener);
            }
        }
        anyhow::bail!("no free TCP port on 127.0.0.1 from {FIRST} on, after {ATTEMPTS} tries")
    }
}
