//! Injects faults from another process.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::fault::Fault;
use crate::stack_file::StackFile;

/// Longer than the supervisor needs to kill a process.
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FaultRequest {
    /// A pattern for names of processes or links. `*` matches anything.
    pub(super) on: String,
    pub(super) fault: Fault,
}

/// A process or link, and its present state.
#[derive(Debug, Serialize, Deserialize)]
pub struct FaultTarget {
    /// `account-service-0`, or `account-service-0/postgres` for a link.
    pub name: String,
    /// `process` or `link`.
    pub kind: String,
    /// `runs`, `starts`, `frozen` or `held` for a process. `passes` or the
    /// injected faults for a link.
    pub state: String,
}

/// Injects faults into a running stack.
#[derive(Debug, Clone)]
pub struct FaultClient {
    http: reqwest::Client,
    url: String,
    token: String,
}

impl FaultClient {
    /// The client for this stack.
    ///
    /// # Errors
    /// If the stack was started without `--faults`.
    pub fn of(file: &StackFile) -> Result<Self> {
        let Some(control) = &file.control else {
            bail!("this stack has no faults: start it with `passbook dev up --faults`");
        };
        let http = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build()?;
        Ok(Self { http, url: control.url.clone(), token: control.token.clone() })
    }

    /// Injects a fault into every process or link with a name matching
    /// `pattern`, in which `*` matches anything: `nats`,
    /// `transaction-service-*/postgres`. Returns their names once the fault is
    /// in effect.
    ///
    /// # Errors
    /// If no name matches, or the fault can't be injected.
    pub async fn inject(&self, pattern: &str, fault: Fault) -> Result<Vec<String>> {
        let body = FaultRequest { on: pattern.to_owned(), fault };
        let request = self.http.post(&self.url).bearer_auth(&self.token).json(&body);
        let response = request.send().await.context("sending the fault to the supervisor")?;
        if !response.status().is_success() {
            bail!("{}", response.text().await?);
        }
        Ok(response.json().await?)
    }

    /// Lists all processes and links.
    ///
    /// # Errors
    /// If the supervisor does not answer.
    pub async fn targets(&self) -> Result<Vec<FaultTarget>> {
        let response = self.http.get(&self.url).bearer_auth(&self.token).send().await?;
        Ok(response.error_for_status()?.json().await?)
    }
}
