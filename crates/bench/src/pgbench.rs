//! The yardstick: PostgreSQL's own benchmark, on the same server.

use std::{env, fs, path::PathBuf, process::Stdio};

use anyhow::{Context, Result, ensure};
use devstack::StackFile;
use sqlx::{Connection as _, PgConnection};
use tokio::process::Command;

const PROGRAM: &str = "pgbench";
const DATABASE: &str = "pgbench";
/// 1,000,000 rows of accounts.
const SCALE: &str = "10";

/// `pgbench -N`: one transaction updates an account, reads it back, and writes
/// a line of history. Five round trips, one commit.
#[derive(Debug)]
pub(crate) struct Pgbench {
    program: PathBuf,
    environment: Vec<(&'static str, String)>,
}

/// What it said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Said {
    /// Transactions a second.
    pub(crate) tps: f64,
    /// Mean latency in milliseconds.
    pub(crate) latency: f64,
}

impl Pgbench {
    /// Prepares it on the server of this stack, in a database of its own.
    pub(crate) async fn prepare(file: &StackFile) -> Result<Self> {
        let program = find(file).with_context(|| {
            format!(
                "{PROGRAM} is missing, which everything is compared with: install PostgreSQL's \
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

    /// So many clients, for so many seconds.
    pub(crate) async fn measure(&self, clients: u16, seconds: u64) -> Result<Said> {
        let (threads, clients) = (clients.min(2).to_string(), clients.to_string());
        let seconds = seconds.to_string();
        let said = self.run(&["-N", "-c", &clients, "-j", &threads, "-T", &seconds]).await?;
        read(&said).with_context(|| format!("{PROGRAM} says: {said}"))
    }

    async fn run(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.program);
        command.args(arguments).envs(self.environment.iter().cloned());
        let output = command.stdin(Stdio::null()).output().await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{PROGRAM}: {said}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Beside the server that runs, else on the search path, else where Debian
/// puts it.
fn find(file: &StackFile) -> Option<PathBuf> {
    let server = file.processes.iter().find(|it| it.name == "postgres")?;
    let beside = fs::read_link(format!("/proc/{}/exe", server.pid)).ok();
    let path = env::var_os("PATH").unwrap_or_default();
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    beside
        .map(|server| server.with_file_name(PROGRAM))
        .into_iter()
        .chain(env::split_paths(&path).map(|folder| folder.join(PROGRAM)))
        .chain(debian.map(|version| version.path().join("bin").join(PROGRAM)))
        .find(|program| program.is_file())
}

/// The server's address as variables: a password is nothing for a command
/// line.
fn environment(url: &str) -> Result<Vec<(&'static str, String)>> {
    let parts = || {
        let (user, place) = url.strip_prefix("postgres://")?.split_once('@')?;
        let (user, password) = user.split_once(':')?;
        let (host, port) = place.split_once('/')?.0.split_once(':')?;
        Some([("PGUSER", user), ("PGPASSWORD", password), ("PGHOST", host), ("PGPORT", port)])
    };
    let parts = parts().context("a database URL of another form")?;
    let rest = [("PGDATABASE", DATABASE), ("PGSSLMODE", "disable")];
    Ok(parts.into_iter().chain(rest).map(|(name, value)| (name, value.to_owned())).collect())
}

fn read(said: &str) -> Option<Said> {
    let after = |name: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    Some(Said { tps: after("tps = ")?, latency: after("latency average = ")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pgbench_prints_is_read() {
        let said = "number of failed transactions: 0 (0.000%)\nlatency average = 0.524 ms\n\
                    initial connection time = 2.0 ms\n\
                    tps = 3921.123456 (without initial connection time)\n";
        assert_eq!(read(said), Some(Said { tps: 3_921.123_456, latency: 0.524 }));
        assert_eq!(read("pgbench: error"), None);
    }

    #[test]
    fn the_address_becomes_variables() {
        let found = environment("postgres://u:p@127.0.0.1:5/report?sslmode=disable").unwrap();
        let found: Vec<_> = found.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            found.join(" "),
            "PGUSER=u PGPASSWORD=p PGHOST=127.0.0.1 PGPORT=5 PGDATABASE=pgbench PGSSLMODE=disable"
        );
    }
}
