//! The address of NATS.

use std::path::PathBuf;

use clap::Args;

use crate::broker::Address;

/// The broker to work on.
#[derive(Debug, Clone, Args)]
pub(crate) struct NatsArguments {
    /// URL of NATS, with a user permitted to read its streams and, for commands with changes, to
    /// write them.
    #[arg(long, value_name = "URL", env = "PASSBOOK_NATS_URL", hide_env_values = true)]
    nats_url: Option<String>,
    /// PEM file of the certificate authority of NATS's servers. With it, the connection must use
    /// TLS.
    #[arg(long, value_name = "FILE", env = "PASSBOOK_NATS_CA")]
    nats_ca: Option<PathBuf>,
}

impl NatsArguments {
    /// The address, if a URL is given.
    pub(crate) fn address(&self) -> Option<Address> {
        let url = self.nats_url.clone()?;
        Some(Address::new(url, self.nats_ca.clone()))
    }
}
