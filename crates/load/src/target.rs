//! The system under load.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use devstack::{Process, StackFile};

/// A running system.
#[derive(Debug, Clone)]
pub struct Target {
    /// API addresses of the account-service's replicas. The connections are
    /// spread over them, and bypass the development stack's proxy to leave it out
    /// of the measurement.
    pub replicas: Vec<SocketAddr>,
    /// Admin addresses of the same replicas, with the counters of settled records.
    pub admins: Vec<SocketAddr>,
    /// A token with access to every account.
    pub token: String,
    /// URL of the account database.
    pub database: String,
}

impl Target {
    /// The development stack of this stack file.
    ///
    /// # Errors
    /// The stack has no account-service, or an address is invalid.
    pub fn of(file: &StackFile) -> Result<Self> {
        let is_account = |process: &&Process| process.name.starts_with("account-service-");
        let serving = || file.processes.iter().filter(is_account);
        let replicas: Vec<_> = serving()
            .filter_map(|process| process.http.as_deref())
            .map(address)
            .collect::<Result<_>>()?;
        let admins = serving()
            .filter_map(|process| process.admin.as_deref())
            .map(address)
            .collect::<Result<_>>()?;
        ensure!(!replicas.is_empty(), "the stack has no account-service");
        let (token, database) = (file.tokens.teller.clone(), file.databases.account.clone());
        Ok(Self { replicas, admins, token, database })
    }
}

fn address(url: &str) -> Result<SocketAddr> {
    let authority =
        url.strip_prefix("http://").with_context(|| format!("{url} is not an http:// URL"))?;
    authority.parse().with_context(|| format!("parsing the address {url}"))
}
