//! `stack.json`: where a running stack tells its addresses, credentials and
//! processes. It is there while everything is ready, and only then.

use std::{fs, io, path::Path};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::private_file;

const NAME: &str = "stack.json";

/// What can be reached, with what, and which processes run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackFile {
    /// The one HTTP address before all replicas of the account-service.
    pub api: String,
    /// URL of the broker, with the user that may do everything; of each node,
    /// separated by commas, when it is a cluster.
    pub nats: String,
    /// URL of the broker's monitoring port; of the first node's.
    pub nats_monitor: String,
    /// URLs of the databases, as superuser.
    pub databases: Databases,
    /// Bearer tokens for the API, good for 30 days.
    pub tokens: Tokens,
    /// The process that started all the others.
    pub supervisor: u32,
    /// Where faults are ordered, if the stack was started for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<Control>,
    /// Every process under it.
    pub processes: Vec<Process>,
}

/// Where faults are ordered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// The supervisor's port for it.
    pub url: String,
    /// The bearer token that it asks for.
    pub token: String,
}

/// A URL for each database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Databases {
    /// The account-service's.
    pub account: String,
    /// The transaction-service's.
    pub transaction: String,
    /// The report-service's.
    pub report: String,
}

/// A token for each role that the stack mints one for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// May act on every account.
    pub teller: String,
    /// May use the administrative routes.
    pub admin: String,
}

/// One process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its name, kept when it is started again: `account-service-0`, `nats`.
    pub name: String,
    /// Its id now. Another one after it died and was started again.
    pub pid: u32,
    /// Where it serves its API, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// Where it serves `/livez`, `/readyz` and `/metrics`, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<String>,
    /// Where a broker tells about itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitor: Option<String>,
}

impl StackFile {
    /// The stack that runs in the folder `dir`; `None` when none is ready
    /// there.
    ///
    /// # Errors
    /// When the file is there and can't be read.
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

    /// The stack that runs in the folder `dir`.
    ///
    /// # Errors
    /// When none is ready there, or the file can't be read.
    pub fn read(dir: &Path) -> Result<Self> {
        Self::find(dir)?.with_context(|| {
            let dir = dir.display();
            format!("no stack is ready in {dir}: `passbook dev up --dir {dir}` starts one")
        })
    }

    /// Writes the file into the folder `dir`, readable for its owner only.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        private_file::write(&dir.join(NAME), &serde_json::to_vec_pretty(self)?)
    }

    /// Removes the file from the folder `dir`, if it is there.
    pub(crate) fn remove(dir: &Path) -> Result<()> {
        match fs::remove_file(dir.join(NAME)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {NAME}"))
            }
            _ => Ok(()),
        }
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
