//! The machine, the servers and the time of a measurement.

use std::{fmt, fs};

use anyhow::Result;
use devstack::StackFile;
use serde::{Deserialize, Serialize};
use sqlx::{Connection as _, PgConnection};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Machine {
    /// Start time, RFC 3339, UTC.
    pub(crate) begun: String,
    pub(crate) processors: String,
    pub(crate) memory: String,
    pub(crate) kernel: String,
    pub(crate) postgres: String,
    pub(crate) nats: String,
}

impl Machine {
    /// Describes this machine and the servers of this stack.
    pub(crate) async fn inspect(file: &StackFile) -> Result<Self> {
        let mut database = PgConnection::connect(&file.databases.report).await?;
        let postgres = sqlx::query_scalar("SHOW server_version").fetch_one(&mut database).await?;
        let broker = crate::nats::connect(file).await?;
        let now = OffsetDateTime::now_utc().replace_nanosecond(0)?;
        Ok(Self {
            begun: now.format(&Rfc3339)?,
            processors: processors(&read("/proc/cpuinfo")),
            memory: memory(&read("/proc/meminfo")),
            kernel: format!("Linux {}", read("/proc/sys/kernel/osrelease").trim()),
            postgres,
            nats: broker.client().server_info().version,
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { begun, processors, memory, kernel, postgres, nats } = self;
        write!(
            formatter,
            "{begun}: {processors}, {memory}, {kernel}; PostgreSQL {postgres}, nats-server {nats}"
        )
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn processors(cpuinfo: &str) -> String {
    let lines = |name| cpuinfo.lines().filter(move |line| line.starts_with(name));
    let model = lines("model name").next().and_then(|line| line.split_once(": "));
    format!("{} × {}", lines("processor").count(), model.map_or("unknown", |(_, model)| model))
}

fn memory(meminfo: &str) -> String {
    let kib = meminfo.split_whitespace().nth(1).and_then(|word| word.parse::<u64>().ok());
    format!("{} GiB", kib.unwrap_or_default().div_ceil(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_described_from_proc_files() {
        let one = "processor\t: 0\nmodel name\t: A fast one\nflags\t: x\n";
        assert_eq!(processors(&one.repeat(2)), "2 × A fast one");
        assert_eq!(processors("processor\t: 0\n"), "1 × unknown");
        assert_eq!(memory("MemTotal:       24689764 kB\nMemFree: 1 kB\n"), "24 GiB");
    }
}
