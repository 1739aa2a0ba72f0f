//! The address of the broker.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use async_nats::ServerAddr;

/// URLs of the broker's servers and their certificate authority. The URLs may contain a password,
/// so neither errors nor the debug form show them.
#[derive(Clone)]
pub(crate) struct Address {
    urls: String,
    authority: Option<PathBuf>,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(address)")
    }
}

impl Address {
    /// One or more URLs, separated by commas, and the PEM file of the certificate authority. With
    /// an authority, the connection must use TLS.
    pub(crate) const fn new(urls: String, authority: Option<PathBuf>) -> Self {
        Self { urls, authority }
    }

    /// The servers at the URLs.
    ///
    /// # Errors
    /// When a URL is malformed.
    pub(crate) fn servers(&self) -> Result<Vec<ServerAddr>> {
        let servers: Result<_, _> = self.urls.split(',').map(|url| url.trim().parse()).collect();
        servers.ok().context("the NATS URL must be like nats://user:password@host:4222")
    }

    pub(super) fn authority(&self) -> Option<&Path> {
        self.authority.as_deref()
    }
}
