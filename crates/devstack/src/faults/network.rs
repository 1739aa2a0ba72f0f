//! The network of a stack: how each process reaches its servers.

use anyhow::Result;

use super::link::Link;
use crate::ports::Ports;

/// Direct ways, or a link for each.
#[derive(Debug)]
pub(crate) struct Network {
    breakable: bool,
    links: Vec<Link>,
}

impl Network {
    /// A network whose links can be broken, or that has none.
    pub(crate) const fn new(breakable: bool) -> Self {
        Self { breakable, links: Vec::new() }
    }

    /// The port by which the process `from` reaches the server `to`, which
    /// listens on `port`.
    ///
    /// # Errors
    /// When there is no free port.
    pub(crate) fn way(&mut self, from: &str, to: &str, port: u16) -> Result<u16> {
        if !self.breakable {
            return Ok(port);
        }
        let listener = Ports::default().take_listener()?;
        let link = Link::open(format!("{from}/{to}"), listener, port)?;
        let way = link.port;
        self.links.push(link);
        Ok(way)
    }

    /// All links, handed over.
    pub(crate) fn take_links(&mut self) -> Vec<Link> {
        std::mem::take(&mut self.links)
    }
}
