//! The yardstick: PostgreSQL's own benchmark, on the same server.

use std::{env, fs, path::PathBuf, process::Stdio};

use anyhow::{Context, Result, ensure};
use devstack::StackFile;
use sqlx::{Connection as _, PgConnection};
use tokio::process::Command;

const PROGRAM: &str = "pgbench";
const DATABASE: &str = "pgbench";
/// 1,000,000 accounts.
const SCALE: &str = "10";
/// The figure of a measurement with 32 clients.
pub(crate) const TPS_FIGURE: &str = "pgbench -N -c 32, tps";

/// `pgbench -N`: a transaction updates an account, reads it back, and inserts a
/// history row, in five round trips and one commit.
#[derive(Debug)]
pub(crate) struct Pgbench {
    program: PathBuf,
    environment: Vec<(&'static str, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PgbenchReport {
    /// Transactions per second.
    pub(crate) tps: f64,
    /// Mean latency, in milliseconds.
    pub(crate) latency: f64,
}

impl Pgbench {
    /// Creates a separate database on the server of this stack and fills it.
    ///
    /// # Errors
    /// The program is missing, or it failed.
    pub(crate) async fn prepare(file: &StackFile) -> Result<Self> {
        let program = find(file).with_context(|| {
            format!(
                "{PROGRAM} was not found. Every figure is compared with it: install PostgreSQL's \
                 contributed programs (Debian: postgresql-contrib), or set PASSBOOK_POSTGRES_BIN"
            )
        })?;
        let mut server = PgConnection::connect(&file.databases.report).await?;
        sqlx::raw_sql("CREATE DATABASE pgbench").execute(&mut server).await?;
        server.close().await?;
        let bench = Self { program, environment: environment(&file.databases.report)? };
        bench.run(&["-i", "-q", "-s", SCALE]).await?;
        Ok(bench)
    }

    pub(crate) async fn measure(&self, clients: u16, seconds: u64) -> Result<PgbenchReport> {
        let (threads, clients) = (clients.min(2).to_string(), clients.to_string());
        let seconds = seconds.to_string();
        let output = self.run(&["-N", "-c", &clients, "-j", &threads, "-T", &seconds]).await?;
        parse(&output).with_context(|| format!("{PROGRAM} printed no figures: {output}"))
    }

    async fn run(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.program);
        command.args(arguments).envs(self.environment.iter().cloned());
        let output = command.stdin(Stdio::null()).output().await?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{PROGRAM} failed: {errors}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Looks in the directory of the running server, then on `PATH`, then in the
/// directories of Debian's packages.
fn find(file: &StackFile) -> Option<PathBuf> {
    let server = file.processes.iter().find(|process| process.name == "postgres")?;
    let running = fs::read_link(format!("/proc/{}/exe", server.pid)).ok();
    let path = env::var_os("PATH").unwrap_or_default();
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    running
        .map(|program| program.with_file_name(PROGRAM))
        .into_iter()
        .chain(env::split_paths(&path).map(|folder| folder.join(PROGRAM)))
        .chain(debian.map(|version| version.path().join("bin").join(PROGRAM)))
        .find(|program| program.is_file())
}

/// The server's address as environment variables, because a command line would
/// show the password to other users.
fn environment(url: &str) -> Result<Vec<(&'static str, String)>> {
    let parts = || {
        let (credentials, address) = url.strip_prefix("postgres://")?.split_once('@')?;
        let (user, password) = credentials.split_once(':')?;
        let (host, port) = address.split_once('/')?.0.split_once(':')?;
        Some([("PGUSER", user), ("PGPASSWORD", password), ("PGHOST", host), ("PGPORT", port)])
    };
    let parts = parts()
        .context("the database URL must have the form postgres://USER:PASSWORD@HOST:PORT/NAME")?;
    let rest = [("PGDATABASE", DATABASE), ("PGSSLMODE", "disable")];
    Ok(parts.into_iter().chain(rest).map(|(name, value)| (name, value.to_owned())).collect())
}

fn parse(output: &str) -> Option<PgbenchReport> {
    let figure = |name: &str| {
        let line = output.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    Some(PgbenchReport { tps: figure("tps = ")?, latency: figure("latency average = ")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_of_pgbench_is_parsed() {
        let output = "number of failed transactions: 0 (0.000%)\nlatency average = 0.524 ms\n\
                    initial connection time = 2.0 ms\n\
                    tps = 3921.123456 (without initial connection time)\n";
        assert_eq!(parse(output), Some(PgbenchReport { tps: 3_921.123_456, latency: 0.524 }));
        assert_eq!(parse("pgbench: error"), None);
    }

    #[test]
    fn the_address_becomes_environment_variables() {
        let variables = environment("postgres://u:p@127.0.0.1:5/report?sslmode=disable").unwrap();
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            variables.join(" "),
            "PGUSER=u PGPASSWORD=p PGHOST=127.0.0.1 PGPORT=5 PGDATABASE=pgbench PGSSLMODE=disable"
        );
    }
}
