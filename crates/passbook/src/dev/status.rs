//! `passbook dev status`

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use clap::Args;
use client::{Cause, Client, Request};
use devstack::Process;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use sqlx::{Connection, PgConnection};
use tracing::error;

use crate::{
    arguments::{StackDir, StackState},
    output::{self, Format, Output},
};

const TIMEOUT: Duration = Duration::from_secs(2);
const NO_ANSWER: &str = "no answer";

/// Show every process of the stack in DIR, and whether it is ready.
///
/// Exits with 1 when a process is not ready, or when no stack runs.
#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    dir: StackDir,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Serialize)]
struct ProcessStatus {
    name: String,
    pid: u32,
    alive: bool,
    ready: bool,
    /// Why the process is not ready, or its degraded conditions.
    reason: Option<String>,
}

/// The response of a service's `/readyz` or the broker's `/healthz`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Readiness {
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
        let file = match self.dir.state()? {
            StackState::Ready(file) => file,
            StackState::NotReady(reason) => {
                error!("{reason}");
                return Ok(ExitCode::FAILURE);
            }
        };
        let alive = devstack::alive(file.supervisor);
        let mut all = vec![ProcessStatus {
            name: "supervisor".to_owned(),
            pid: file.supervisor,
            alive,
            ready: alive,
            reason: (!alive).then(|| "it was killed: its children are exiting".to_owned()),
        }];
        for process in &file.processes {
            let (ready, reason) = probe(&file.databases.account, process).await;
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

/// Whether a process is ready, and the reason if not.
async fn probe(database: &str, process: &Process) -> (bool, Option<String>) {
    let (url, path) = match (&process.admin, &process.monitor) {
        (Some(admin), _) => (admin, "/readyz"),
        (None, Some(monitor)) => (monitor, "/healthz"),
        (None, None) => {
            let reason = probe_postgres(database).await;
            return (reason.is_none(), reason);
        }
    };
    let exchange = async {
        let client = Client::builder(url, "").timeout(TIMEOUT).build()?;
        client.send(&Request::get(path)).await
    };
    match exchange.await {
        Ok(answer) => (answer.status.is_success(), reason(answer.status, &answer.body)),
        Err(error) if matches!(error.cause(), Cause::Timeout(_)) => (false, Some(timed_out())),
        Err(_) => (false, Some(NO_ANSWER.to_owned())),
    }
}

async fn probe_postgres(url: &str) -> Option<String> {
    let connect = async { PgConnection::connect(url).await?.close().await };
    match tokio::time::timeout(TIMEOUT, connect).await {
        Ok(Ok(())) => None,
        Ok(Err(sqlx::Error::Io(_))) => Some(NO_ANSWER.to_owned()),
        Ok(Err(sqlx::Error::Database(error))) => Some(error.message().to_owned()),
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(timed_out()),
    }
}

fn timed_out() -> String {
    format!("{NO_ANSWER} within {} s", TIMEOUT.as_secs())
}

/// The conditions currently down, or the error. A condition not required for readiness is degraded.
fn reason(status: StatusCode, body: &[u8]) -> Option<String> {
    let readiness: Readiness = serde_json::from_slice(body).unwrap_or_default();
    let down = readiness.conditions.into_iter().filter(|condition| !condition.up);
    let down = down.map(|condition| {
        let degraded = if condition.required { "" } else { " (degraded)" };
        let reason = condition.reason.unwrap_or_else(|| "down".to_owned());
        format!("{}{degraded}: {reason}", condition.name)
    });
    let down: Vec<_> = down.collect();
    if !down.is_empty() {
        return Some(down.join("; "));
    }
    (!status.is_success())
        .then(|| readiness.error.unwrap_or_else(|| format!("it answers {status}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_names_the_conditions_that_are_down() {
        let down = br#"{"ready":false,"conditions":[
            {"name":"nats","up":false,"required":false,"reason":"not connected","forSeconds":1},
            {"name":"postgres","up":false,"required":true,"reason":"no answer","forSeconds":2},
            {"name":"results","up":true,"required":true,"forSeconds":3}]}"#;
        let expected = Some("nats (degraded): not connected; postgres: no answer".to_owned());
        assert_eq!(reason(StatusCode::SERVICE_UNAVAILABLE, down), expected);
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
