//! The settings of every service: flags and environment variables. A service
//! flattens [`ServiceConfig`] into its own struct. `--help` is the reference. Each
//! group of settings is declared beside the code that reads it.

use std::{net::SocketAddr, time::Duration};

use clap::Args;

use crate::{
    nats::connection::{self, NatsConfig},
    postgres::{self, DatabaseConfig},
    setting::parse_duration,
    telemetry::{
        logs::LogConfig,
        otlp::{self, TracesConfig},
    },
    worker::WorkerConfig,
};

/// Settings of the process itself.
#[derive(Debug, Clone, Args)]
pub struct ProcessConfig {
    /// Address of /livez, /readyz and /metrics. Must not be public.
    #[arg(long, env = "PASSBOOK_ADMIN_LISTEN", default_value = "127.0.0.1:9090")]
    pub admin_listen: SocketAddr,
    #[command(flatten)]
    pub logs: LogConfig,
    /// After SIGTERM, the time limit for requests and messages in process.
    #[arg(long, env = "PASSBOOK_GRACE_PERIOD", value_parser = parse_duration, value_name = "DURATION", default_value = "20s")]
    pub grace_period: Duration,
    /// Worker threads: 1 to 256. Prefer adding replicas to adding threads.
    #[arg(long, env = "PASSBOOK_THREADS", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: u16,
}

/// The settings of every service.
#[derive(Debug, Clone, Args)]
pub struct ServiceConfig {
    #[command(flatten)]
    pub process: ProcessConfig,
    #[command(flatten)]
    pub database: DatabaseConfig,
    #[command(flatten)]
    pub nats: NatsConfig,
    #[command(flatten)]
    pub worker: WorkerConfig,
    #[command(flatten)]
    pub traces: TracesConfig,
}

impl ServiceConfig {
    /// Rejects invalid settings before a port is bound.
    ///
    /// # Errors
    /// The first invalid setting, by name.
    pub fn check(&self) -> anyhow::Result<()> {
        postgres::options(&self.database)?;
        connection::servers(&self.nats)?;
        otlp::endpoint(&self.traces)?;
        Ok(())
    }
}
