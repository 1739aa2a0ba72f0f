//! The network of a stack: the connections from processes to their servers.

use std::net::TcpListener;

use anyhow::Result;

use super::link::Link;
use crate::ports::{Loopback, Ports};

/// Connects processes to servers, directly or over links.
#[derive(Debug)]
pub(crate) struct Network {
    /// The ports of the links.
    ports: Ports,
    /// Whether each connection gets a link.
    breakable: bool,
    links: Vec<Link>,
}

impl Network {
    /// A network of this host, with a link for each connection, or without any.
    pub(crate) const fn new(host: Loopback, breakable: bool) -> Self {
        Self { ports: Ports::new(host), breakable, links: Vec::new() }
    }

    /// Returns the port over which the process `client` reaches the server
    /// `server`, which listens on `port`.
    ///
    /// # Errors
    /// If there is no free port for a link.
    pub(crate) fn connect(&mut self, client: &str, server: &str, port: u16) -> Result<u16> {
        if !self.breakable {
            return Ok(port);
        }
        let address = (self.ports.host().ip(), self.ports.take()?);
        let listener = TcpListener::bind(address)?;
        let link = Link::open(format!("{client}/{server}"), listener, port)?;
        let link_port = link.port;
        self.links.push(link);
        Ok(link_port)
    }

    /// Hands over all links.
    pub(crate) fn take_links(&mut self) -> Vec<Link> {
        std::mem::take(&mut self.links)
    }
}
