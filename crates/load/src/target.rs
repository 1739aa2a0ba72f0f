//! The system under load.

use std::net::SocketAddr;

use ::client::Client;
use anyhow::{Context, Result, ensure};
use devstack::{Process, StackFile};

/// A running system.
#[derive(Debug, Clone)]
pub struct Target {
    /// API addresses of the account-service's replicas. The connections are
    /// spread over them, and bypass the development stack's proxy to leave it out
    /// of the measurement.
    pub replicas: Vec<SocketAddr>,
    /// The `Host` of the requests.
    pub host: String,
    /// Admin addresses of the same replicas, with the counters of settled records.
    /// Empty for a system that is reached by its API only.
    pub admins: Vec<SocketAddr>,
    /// A token with access to every account.
    pub token: String,
    /// URL of the account database. `None`: the API counts the records.
    pub database: Option<String>,
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
        Ok(Self { replicas, host: "passbook".into(), admins, token, database: Some(database) })
    }

    /// A system with this URL of its API, such as `http://127.0.0.1:8080`. The
    /// connections are spread over all addresses of the name. Only the API is used.
    ///
    /// # Errors
    /// The URL is not of this form, or the name has no address.
    pub async fn of_api(url: &str, token: String) -> Result<Self> {
        let form = "the API's URL must have the form http://host:8080. For a system behind TLS, \
                    forward a port to it: `kubectl port-forward service/account-service 8080:80`";
        let host = url.strip_prefix("http://").context(form)?.trim_end_matches('/');
        ensure!(!host.is_empty() && !host.contains(['/', '@', '?', '#']), form);
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let address = if has_port { host.to_owned() } else { format!("{host}:80") };
        let found = tokio::net::lookup_host(&address).await;
        let replicas: Vec<_> = found.with_context(|| format!("looking up {address}"))?.collect();
        ensure!(!replicas.is_empty(), "{address} has no address");
        Ok(Self { replicas, host: host.to_owned(), admins: Vec::new(), token, database: None })
    }

    /// A client of each replica, or of the API of a system that is reached by it only.
    pub(crate) fn clients(&self) -> Result<Vec<Client>> {
        let hosts = match self.database {
            Some(_) => self.replicas.iter().map(ToString::to_string).collect(),
            None => vec![self.host.clone()],
        };
        let client = |host: String| Ok(Client::new(&format!("http://{host}"), &self.token)?);
        hosts.into_iter().map(client).collect()
    }
}

fn address(url: &str) -> Result<SocketAddr> {
    let authority =
        url.strip_prefix("http://").with_context(|| format!("{url} is not an http:// URL"))?;
    authority.parse().with_context(|| format!("parsing the address {url}"))
}
