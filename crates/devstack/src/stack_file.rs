//! `stack.json`: the addresses, credentials and processes of a running stack.
//! The file appears once everything is ready and is removed when the stop
//! begins. A killed supervisor leaves it behind; `supervisor` names its process.

use std::{fs, io, path::Path};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::{private_file, remove, stack_dir};

const NAME: &str = "stack.json";

/// The contents of `stack.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackFile {
    /// URL of the proxy: one HTTP address in front of all replicas.
    pub api: String,
    /// URL of the broker, with the operator's credentials. In a cluster, the
    /// URLs of all nodes, comma-separated.
    pub nats: String,
    /// URL of the broker's monitoring port. In a cluster, the first node's.
    pub nats_monitor: String,
    /// URLs of the databases, with the superuser's credentials.
    pub databases: Databases,
    /// Bearer tokens for the API, valid for 30 days.
    pub tokens: Tokens,
    /// Process id of the supervisor, the parent of all other processes.
    pub supervisor: u32,
    /// Where faults are injected. Missing if the stack was started without
    /// faults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<ControlAddress>,
    /// All processes except the supervisor.
    pub processes: Vec<Process>,
}

/// The supervisor's port for faults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlAddress {
    /// `GET` lists processes and links, `POST` injects a fault.
    pub url: String,
    /// The required bearer token.
    pub token: String,
}

/// A URL for each database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Databases {
    /// Of the account-service.
    pub account: String,
    /// Of the transaction-service.
    pub transaction: String,
    /// Of the report-service.
    pub report: String,
}

/// A bearer token for each of two roles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// May act on every account, but has no administrative scope.
    pub teller: String,
    /// Has every scope: may also manage API keys and read the audit log.
    pub admin: String,
}

/// One process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The name, which stays the same after a restart: `account-service-0`,
    /// `nats`.
    pub name: String,
    /// The process id, which changes with a restart.
    pub pid: u32,
    /// URL of its API, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// URL of its admin port with `/livez`, `/readyz` and `/metrics`, if it is
    /// a service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<String>,
    /// URL of its monitoring port, if it is a broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitor: Option<String>,
}

impl StackFile {
    /// Reads the file of the stack in `dir`. `None` if no stack is ready there.
    ///
    /// # Errors
    /// If the file exists and can't be read.
    pub fn find(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(NAME);
        match fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map(Some).with_context(|| path.display().to_string())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    /// Reads the file of the stack in `dir`.
    ///
    /// # Errors
    /// If no stack is ready there, or the file can't be read.
    pub fn read(dir: &Path) -> Result<Self> {
        Self::find(dir)?.with_context(|| {
            let (shown, argument) = (dir.display(), stack_dir::shell_argument(dir));
            format!("no stack is ready in {shown}: `passbook dev up --dir {argument}` starts one")
        })
    }

    /// Writes the file into the folder `dir`, readable only by its owner.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        private_file::write(&dir.join(NAME), &serde_json::to_vec_pretty(self)?)
    }

    /// Removes the file from the folder `dir`, if it exists.
    pub(crate) fn remove(dir: &Path) -> Result<()> {
        remove::file(&dir.join(NAME))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_written_as_scripts_read_it() {
        let file = StackFile {
            api: "http://127.0.0.1:8080".into(),
            nats: "nats://passbook:secret@127.0.0.1:1".into(),
            nats_monitor: "http://127.0.0.1:2".into(),
            databases: Databases {
                account: "postgres://a".into(),
                transaction: "postgres://t".into(),
                report: "postgres://r".into(),
            },
            tokens: Tokens { teller: "t".into(), admin: "a".into() },
            supervisor: 10,
            control: None,
            processes: vec![
                Process {
                    name: "account-service-0".into(),
                    pid: 11,
                    http: Some("http://127.0.0.1:3".into()),
                    admin: Some("http://127.0.0.1:4".into()),
                    monitor: None,
                },
                Process {
                    name: "nats".into(),
                    pid: 12,
                    http: None,
                    admin: None,
                    monitor: Some("http://127.0.0.1:2".into()),
                },
            ],
        };
        let json = serde_json::json!({
            "api": "http://127.0.0.1:8080",
            "nats": "nats://passbook:secret@127.0.0.1:1",
            "nats_monitor": "http://127.0.0.1:2",
            "databases": { "account": "postgres://a", "transaction": "postgres://t", "report": "postgres://r" },
            "tokens": { "teller": "t", "admin": "a" },
            "supervisor": 10,
            "processes": [
                { "name": "account-service-0", "pid": 11, "http": "http://127.0.0.1:3", "admin": "http://127.0.0.1:4" },
                { "name": "nats", "pid": 12, "monitor": "http://127.0.0.1:2" }
            ]
        });
        assert_eq!(serde_json::to_value(&file).unwrap(), json);
        assert_eq!(serde_json::from_value::<StackFile>(json).unwrap(), file);
    }
}
