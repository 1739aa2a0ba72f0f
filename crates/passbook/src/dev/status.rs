//! `passbook dev status`

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use clap::Args;
use devstack::{Process, StackFile};
use serde::Serialize;
use sqlx::{Connection, PgConnection};
use tracing::error;

use crate::{
    cli::Dir,
    output::{self, Output},
};

const TIMEOUT: Duration = Duration::from_secs(2);

/// Show every process of the stack that runs in DIR, and whether it is ready.
///
/// Exits with 1 when one is not, or when no stack runs.
#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    dir: Dir,
}

#[derive(Debug, Serialize)]
struct ProcessStatus {
    name: String,
    pid: u32,
    alive: bool,
    ready: bool,
    /// Why it is not ready, in its own words.
    reason: Option<String>,
}

impl Status {
    pub(crate) async fn run(self, output: Output) -> Result<ExitCode> {
        let dir = self.dir.path();
        let supervisor = devstack::supervisor(dir)?;
        let file = StackFile::find(dir)?;
        let Some((supervisor, file)) = supervisor.zip(file) else {
            match supervisor {
                Some(pid) => {
                    error!("the stack in {} is starting or stopping (pid {pid})", dir.display())
                }
                None => error!("no stack runs in {}: `passbook dev up` starts one", dir.display()),
            }
            return Ok(ExitCode::FAILURE);
        };
        let http = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build()?;
        let mut all = vec![ProcessStatus {
            name: "supervisor".to_owned(),
            pid: supervisor,
            alive: devstack::alive(supervisor),
            ready: devstack::alive(supervisor),
            reason: None,
        }];
        for process in &file.processes {
            let reason = not_ready(&http, &file, process).await.err();
            all.push(ProcessStatus {
                name: process.name.clone(),
                pid: process.pid,
                alive: devstack::alive(process.pid),
                ready: reason.is_none(),
                reason: reason.map(|reason| format!("{reason:#}")),
            });
        }
        let fine = all.iter().all(|process| process.alive && process.ready);
        print(all, output)?;
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

/// Fails with the reason for which a process is not ready.
async fn not_ready(http: &reqwest::Client, file: &StackFile, process: &Process) -> Result<()> {
    let url = match (&process.admin, process.name.as_str()) {
        (Some(admin), _) => format!("{admin}/readyz"),
        (None, "nats") => format!("{}/healthz", file.nats_monitor),
        (None, _) => {
            let connect = PgConnection::connect(&file.databases.account);
            return Ok(tokio::time::timeout(TIMEOUT, connect).await??.close().await?);
        }
    };
    let answer = http.get(url).send().await?;
    if answer.status().is_success() {
        return Ok(());
    }
    let status = answer.status();
    anyhow::bail!("{status}: {}", answer.text().await?.trim())
}
