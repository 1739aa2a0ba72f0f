//! What the load goes to.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use devstack::StackFile;

/// A running system.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where the replicas of the account-service serve the API. Requests go to
    /// them in turn, past the development stack's front, which would be
    /// measured with them.
    pub replicas: Vec<SocketAddr>,
    /// Their admin ports, which count what is settled.
    pub admins: Vec<SocketAddr>,
    /// A token that may use every account.
    pub token: String,
    /// URL of the account database.
    pub database: String,
}

impl Target {
    /// The development stack.
    ///
    /// # Errors
    /// When it has no account-service.
    pub fn of(file: &StackFile) -> Result<Self> {
        let serving = || file.processes.iter().filter(|it| it.http.is_some());
        let replicas: Vec<_> =
            serving().filter_map(|it| it.http.as_deref()).map(address).collect::<Result<_>>()?;
        let admins =
            serving().filter_map(|it| it.admin.as_deref()).map(address).collect::<Result<_>>()?;
        ensure!(!replicas.is_empty(), "the stack has no account-service");
        let (token, database) = (file.tokens.teller.clone(), file.databases.account.clone());
        Ok(Self { replicas, admins, token, database })
    }
}

fn address(url: &str) -> Result<SocketAddr> {
    let authority = url.strip_prefix("http://").with_context(|| format!("{url} is no address"))?;
    authority.parse().with_context(|| url.to_owned())
}
