//! Load by a client of another make: [wrk](https://github.com/wg/wrk).

use std::{
    env, fs,
    path::PathBuf,
    process::Stdio,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use tokio::process::Command;
use uuid::Uuid;

use crate::{
    bench::Bench,
    database_figures::{nothing_pending, settled_rate},
    stack::Stack,
};

const PROGRAM: &str = "wrk";
const SCRIPT: &str = include_str!("../wrk.lua");
/// Connections of all processes together.
const CONNECTIONS: usize = 256;
/// Printed, and added to the report, if the program is missing.
pub(crate) const MISSING: &str =
    "`wrk` was not found on `PATH`, so its rows are missing (Debian: `apt-get install wrk`).";

/// The program with its script, for one stack and its accounts.
#[derive(Debug)]
pub(crate) struct Wrk {
    program: PathBuf,
    script: PathBuf,
    accounts: PathBuf,
    /// URLs of the account-service's replicas.
    pub(crate) replicas: Vec<String>,
    /// URL of the development proxy.
    pub(crate) proxy: String,
}

impl Wrk {
    /// Writes the script and the list of accounts. `None`: the program is
    /// missing.
    ///
    /// # Errors
    /// A file can't be written.
    pub(crate) fn prepare(
        bench: &Bench,
        stack: &Stack,
        accounts: &[String],
    ) -> Result<Option<Self>> {
        let path = env::var_os("PATH").unwrap_or_default();
        let mut programs = env::split_paths(&path).map(|folder| folder.join(PROGRAM));
        let Some(program) = programs.find(|program| program.is_file()) else {
            eprintln!("  {MISSING}");
            return Ok(None);
        };
        let (script, list) = (bench.dir.join("wrk.lua"), bench.dir.join("wrk-accounts"));
        fs::write(&script, SCRIPT)?;
        fs::write(&list, accounts.join("\n"))?;
        let replicas = stack.target.replicas.iter().map(|address| format!("http://{address}"));
        let (replicas, proxy) = (replicas.collect(), stack.file.api.clone());
        Ok(Some(Self { program, script, accounts: list, replicas, proxy }))
    }

    /// Sends deposits in a closed loop of 256 connections, divided equally among
    /// the URLs, with one process for each. Returns the settled records per
    /// second, from the first accepted record until the last is settled.
    ///
    /// # Errors
    /// A request was not accepted, or a record did not settle.
    pub(crate) async fn deposits(
        &self,
        stack: &Stack,
        urls: &[String],
        duration: Duration,
    ) -> Result<f64> {
        let begun = SystemTime::now();
        let connections = CONNECTIONS / urls.len().max(1);
        try_join_all(urls.iter().map(|url| self.run(stack, url, connections, duration))).await?;
        nothing_pending(&stack.file).await?;
        settled_rate(&stack.file, begun).await
    }

    async fn run(
        &self,
        stack: &Stack,
        url: &str,
        connections: usize,
        duration: Duration,
    ) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.args(["--threads", "1", "--connections", &connections.to_string()]);
        command.args(["--duration", &format!("{}s", duration.as_secs()), "--script"]);
        command.arg(&self.script).arg(url).stdin(Stdio::null());
        // A command line would show the token to other users.
        command.env("PASSBOOK_TOKEN", &stack.target.token);
        command.env("PASSBOOK_ACCOUNTS", &self.accounts);
        command.env("PASSBOOK_KEY_PREFIX", format!("wrk-{}", Uuid::now_v7()));
        let output = command.output().await?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (printed, errors) = (text(&output.stdout), text(&output.stderr));
        ensure!(output.status.success(), "{PROGRAM} failed: {printed}{errors}");
        let result = parse(&printed).with_context(|| format!("{PROGRAM} printed: {printed}"))?;
        ensure!(result.failed == 0, "{PROGRAM}: requests failed: {printed}");
        ensure!(result.requests > 0, "{PROGRAM} sent nothing: {printed}{errors}");
        Ok(())
    }
}

#[derive(Debug, PartialEq, Eq)]
struct WrkResult {
    /// Requests with a response.
    requests: u64,
    /// Responses with a status other than 2xx and 3xx, and socket errors.
    failed: u64,
}

fn parse(printed: &str) -> Option<WrkResult> {
    let line = |part: &str| printed.lines().map(str::trim).find(|line| line.contains(part));
    let requests = line(" requests in ")?.split(' ').next()?.parse().ok()?;
    let statuses = match line("Non-2xx or 3xx responses: ") {
        Some(line) => line.rsplit(' ').next()?.parse().ok()?,
        None => 0,
    };
    let sockets = match line("Socket errors: ") {
        Some(line) => {
            let words = line.split([' ', ',']).filter_map(|word| word.parse::<u64>().ok());
            words.sum()
        }
        None => 0,
    };
    Some(WrkResult { requests, failed: statuses + sockets })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLEAN: &str = "Running 4s test @ http://127.0.0.1:20001\n  1 threads and 128 \
                         connections\n  Thread Stats   Avg      Stdev     Max   +/- Stdev\n    \
                         Req/Sec     3.02k   310.11     3.60k    70.00%\n  12034 requests in \
                         4.01s, 7.73MB read\n";

    #[test]
    fn failed_requests_of_every_kind_are_counted() {
        assert_eq!(parse(CLEAN), Some(WrkResult { requests: 12_034, failed: 0 }));
        let sockets = "  Socket errors: connect 1, read 20, write 0, timeout 3\n";
        let statuses = "  Non-2xx or 3xx responses: 100\nRequests/sec:   3001.00\n";
        let failed = parse(&format!("{CLEAN}{sockets}{statuses}"));
        assert_eq!(failed, Some(WrkResult { requests: 12_034, failed: 124 }));
        assert_eq!(parse("unable to connect"), None);
    }
}
