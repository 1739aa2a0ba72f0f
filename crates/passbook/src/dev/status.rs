//! `passbook dev status`

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use clap::Args;
use devstack::Process;
use reqwest::StatusCode;
use serde::{Deserialize, Serialize};
use sqlx::{Connection, PgConnection};
use tracing::error;

use crate::{
    cli::Dir,
    output::{self, Format, Output},
};

const TIMEOUT: Duration = Duration::from_secs(2);
const NO_ANSWER: &str = "no answer";

/// Show every process of the stack that runs in DIR, and whether it is ready.
///
/// Exits with 1 when one is not, or when no stack runs.
#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    dir: Dir,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Serialize)]
struct ProcessStatus {
    name: String,
    pid: u32,
    alive: bool,
    ready: bool,
    /// Why it is not ready, or what is wrong though it is.
    reason: Option<String>,
}

/// What `/readyz` of a service and `/healthz` of the broker answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    conditions: Vec<Condition>,
    error: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Condition {
    name: String,
    up: bool,
    required: bool,
    reason: Option<String>,
}

impl Status {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let (supervisor, file) = match self.dir.stack()? {
            Ok(stack) => stack,
            Err(instead) => {
                error!("{instead}");
                return Ok(ExitCode::FAILURE);
            }
        };
        let alive = devstack::alive(supervisor);
        let http = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build()?;
        let mut all = vec![ProcessStatus {
            name: "supervisor".to_owned(),
            pid: supervisor,
            alive,
            ready: alive,
            reason: (!alive).then(|| "it was killed: everything under it is ending".to_owned()),
        }];
        for process in &file.processes {
            let (ready, reason) = ask(&http, &file.databases.account, process).await;
            all.push(ProcessStatus {
                name: process.name.clone(),
                pid: process.pid,
                alive: devstack::alive(process.pid),
                ready,
                reason,
            });
        }
        let fine = all.iter().all(|process| process.alive && process.ready);
        print(all, self.format.output)?;
        Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn print(all: Vec<ProcessStatus>, output: Output) -> Result<()> {
    if output == Output::Json {
        return output::json(&all);
    }
    let yes = |yes| if yes { "yes" } else { "no" }.to_owned();
    output::table(
        &["PROCESS", "PID", "ALIVE", "READY", "REASON"],
        all.into_iter().map(|process| {
            let reason = process.reason.unwrap_or_default();
            vec![
                process.name,
                process.pid.to_string(),
                yes(process.alive),
                yes(process.ready),
                reason,
            ]
        }),
    )
}

/// Whether a process is ready, and what is wrong with it.
async fn ask(http: &reqwest::Client, database: &str, process: &Process) -> (bool, Option<String>) {
    let url = match (&process.admin, &process.monitor) {
        (Some(admin), _) => format!("{admin}/readyz"),
        (None, Some(monitor)) => format!("{monitor}/healthz"),
        (None, None) => {
            let reason = ask_postgres(database).await;
            return (reason.is_none(), reason);
        }
    };
    let answer = async {
        let answer = http.get(url).send().await?;
        Ok::<_, reqwest::Error>((answer.status(), answer.bytes().await?))
    };
    match answer.await {
        Ok((status, body)) => (status.is_success(), reason(status, &body)),
        Err(error) if error.is_timeout() => (false, Some(too_late())),
        Err(_) => (false, Some(NO_ANSWER.to_owned())),
    }
}

async fn ask_postgres(url: &str) -> Option<String> {
    let ask = async { PgConnection::connect(url).await?.close().await };
    match tokio::time::timeout(TIMEOUT, ask).await {
        Ok(Ok(())) => None,
        Ok(Err(sqlx::Error::Io(_))) => Some(NO_ANSWER.to_owned()),
        Ok(Err(sqlx::Error::Database(error))) => Some(error.message().to_owned()),
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(too_late()),
    }
}

fn too_late() -> String {
    format!("{NO_ANSWER} within {} s", TIMEOUT.as_secs())
}

/// The conditions that are down; degraded are those that it is ready without.
fn reason(status: StatusCode, body: &[u8]) -> Option<String> {
    let answer: Answer = serde_json::from_slice(body).unwrap_or_default();
    let down = answer.conditions.into_iter().filter(|condition| !condition.up);
    let down = down.map(|condition| {
        let degraded = if condition.required { "" } else { " (degraded)" };
        let reason = condition.reason.unwrap_or_else(|| "down".to_owned());
        format!("{}{degraded}: {reason}", condition.name)
    });
    let down: Vec<_> = down.collect();
    if !down.is_empty() {
        return Some(down.join("; "));
    }
    (!status.is_success()).then(|| answer.error.unwrap_or_else(|| format!("it answers {status}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_what_is_down() {
        let down = br#"{"ready":false,"conditions":[
            {"name":"nats","up":false,"required":false,"reason":"not connected","forSeconds":1},
            {"name":"postgres","up":false,"required":true,"reason":"no answer","forSeconds":2},
            {"name":"results","up":true,"required":true,"forSeconds":3}]}"#;
        let told = Some("nats (degraded): not connected; postgres: no answer".to_owned());
        assert_eq!(reason(StatusCode::SERVICE_UNAVAILABLE, down), told);
        assert_eq!(reason(StatusCode::OK, br#"{"ready":true,"conditions":[]}"#), None);
        assert_eq!(
            reason(StatusCode::SERVICE_UNAVAILABLE, br#"{"status":"x","error":"lost it"}"#),
            Some("lost it".to_owned())
        );
        assert_eq!(
            reason(StatusCode::BAD_GATEWAY, b"<html>"),
            Some("it answers 502 Bad Gateway".to_owned())
        );
    }
}
