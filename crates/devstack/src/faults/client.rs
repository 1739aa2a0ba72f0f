//! Orders faults from another process.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::Fault;
use crate::StackFile;

/// Longer than a process needs to be killed.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What is to be done, and to what.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    /// A name of a process or link, in which `*` stands for anything.
    pub(super) on: String,
    pub(super) fault: Fault,
}

/// What faults can be ordered on, and its present state.
#[derive(Debug, Serialize, Deserialize)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Whether it is a link or a process.
    pub kind: String,
    /// What is wrong with it, as far as that was ordered here.
    pub state: String,
}

/// Orders faults of a running stack.
#[derive(Debug, Clone)]
pub struct FaultClient {
    http: reqwest::Client,
    url: String,
    token: String,
}

impl FaultClient {
    /// The one of this stack.
    ///
    /// # Errors
    /// When the stack was not started with `--faults`.
    pub fn of(file: &StackFile) -> Result<Self> {
        let Some(control) = &file.control else {
            bail!("this stack takes no faults: start it by `passbook dev up --faults`");
        };
        let http = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build()?;
        Ok(Self { http, url: control.url.clone(), token: control.token.clone() })
    }

    /// Has a fault happen to everything whose name fits `on`, in which `*`
    /// stands for anything: `nats`, `transaction-service-*/postgres`. Gives
    /// the names. Returns when it has happened.
    ///
    /// # Errors
    /// When nothing fits, or it could not be done.
    pub async fn order(&self, on: &str, fault: Fault) -> Result<Vec<String>> {
        let order = Order { on: on.to_owned(), fault };
        let request = self.http.post(&self.url).bearer_auth(&self.token).json(&order);
        let answer = request.send().await.context("asking the supervisor")?;
        if !answer.status().is_success() {
            bail!("{}", answer.text().await?);
        }
        Ok(answer.json().await?)
    }

    /// Everything that faults can be ordered on.
    ///
    /// # Errors
    /// When the supervisor does not answer.
    pub async fn targets(&self) -> Result<Vec<Target>> {
        let answer = self.http.get(&self.url).bearer_auth(&self.token).send().await?;
        Ok(answer.error_for_status()?.json().await?)
    }
}
