//! The flags and environment variables that every service shares. A service
//! flattens these into its own struct; `--help` is the reference.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, ValueEnum};

/// A text that never shows itself in logs.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// The text, to be handed to whoever needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// A length of time, written with its unit: `250ms`, `5s`, `2m`.
///
/// # Errors
/// A sentence that says which forms are taken.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text.strip_prefix(digits).unwrap_or_default();
    let number: u64 = digits.parse().map_err(|_| "must be like 250ms, 5s or 2m".to_owned())?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number.saturating_mul(60))),
        _ => Err("must be like 250ms, 5s or 2m".to_owned()),
    }
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For a person at a terminal.
    Human,
}

/// Logs, the admin port and the stop: what any process has.
#[derive(Debug, Clone, Args)]
pub struct ProcessConfig {
    /// Address of /livez, /readyz and /metrics. Not for the public.
    #[arg(long, env = "PASSBOOK_ADMIN_LISTEN", default_value = "127.0.0.1:9090")]
    pub admin_listen: SocketAddr,
    /// What to log: a level, or levels by module, as tracing's EnvFilter reads them.
    #[arg(long, env = "PASSBOOK_LOG", default_value = "info")]
    pub log: String,
    /// How log lines are written.
    #[arg(long, env = "PASSBOOK_LOG_FORMAT", value_enum, default_value = "json")]
    pub log_format: LogFormat,
    /// After SIGTERM, how long what is in hand may take before it is abandoned.
    #[arg(long, env = "PASSBOOK_GRACE_PERIOD", value_parser = parse_duration, value_name = "DURATION", default_value = "20s")]
    pub grace_period: Duration,
    /// Threads that do the work: 1 to 256. Another replica brings more than another thread.
    #[arg(long, env = "PASSBOOK_THREADS", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: u16,
}

/// The service's own database.
#[derive(Debug, Clone, Args)]
pub struct DatabaseConfig {
    /// PostgreSQL connection URL. It holds a password: give it by environment, not as a flag.
    #[arg(long, env = "PASSBOOK_DATABASE_URL", hide_env_values = true)]
    pub database_url: Secret,
    /// Connections at most: 1 to 1000.
    #[arg(long, env = "PASSBOOK_DATABASE_CONNECTIONS", default_value_t = 5,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub database_connections: u32,
    /// How long to wait for a free connection, or for the database to come back, before a
    /// request is answered with 503 and a worker tries again.
    #[arg(long, env = "PASSBOOK_DATABASE_TIMEOUT", value_parser = parse_duration, value_name = "DURATION", default_value = "5s")]
    pub database_timeout: Duration,
}

/// The broker.
#[derive(Debug, Clone, Args)]
pub struct NatsConfig {
    /// NATS server addresses, separated by commas.
    #[arg(
        long,
        env = "PASSBOOK_NATS_URL",
        hide_env_values = true,
        default_value = "nats://127.0.0.1:4222"
    )]
    pub nats_url: Secret,
    /// NATS user.
    #[arg(long, env = "PASSBOOK_NATS_USER", requires = "nats_password")]
    pub nats_user: Option<String>,
    /// NATS password: give it by environment, not as a flag.
    #[arg(long, env = "PASSBOOK_NATS_PASSWORD", hide_env_values = true, requires = "nats_user")]
    pub nats_password: Option<Secret>,
    /// File of the authority (PEM) that signs the servers' certificates. With it, nothing is sent
    /// unencrypted. Without, it is encrypted if the server asks for that, with the system's
    /// authorities.
    #[arg(long, env = "PASSBOOK_NATS_CA", value_name = "FILE")]
    pub nats_ca: Option<PathBuf>,
    /// How long one attempt to connect may take, such as 250ms, 5s or 2m.
    #[arg(long, env = "PASSBOOK_NATS_CONNECT_TIMEOUT", value_parser = parse_duration, value_name = "DURATION", default_value = "5s")]
    pub nats_connect_timeout: Duration,
    /// How long to wait between attempts to connect.
    #[arg(long, env = "PASSBOOK_NATS_RECONNECT_WAIT", value_parser = parse_duration, value_name = "DURATION", default_value = "2s")]
    pub nats_reconnect_wait: Duration,
    /// Attempts in a row before the process gives up and ends, for instance 10. Unlimited when
    /// left out.
    #[arg(long, env = "PASSBOOK_NATS_MAX_RECONNECTS")]
    pub nats_max_reconnects: Option<usize>,
    /// Copies of each stream and consumer that the broker keeps: 1, or 3 or 5 on a cluster.
    #[arg(long, env = "PASSBOOK_STREAM_REPLICAS", default_value_t = 1,
          value_parser = clap::value_parser!(u8).range(1..=5))]
    pub stream_replicas: u8,
}

/// Spans for a collector. The names are OpenTelemetry's, and so are those that
/// are not listed: OTEL_EXPORTER_OTLP_HEADERS, for a collector that wants to know
/// who sends.
#[derive(Debug, Clone, Args)]
pub struct TracesConfig {
    /// Where spans are sent, as OTLP over HTTP, such as http://collector:4318. Nothing is
    /// recorded when left out.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// The share of traces that are recorded, 0 to 1, of those that begin here. For others, whoever
    /// began them has decided.
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG", value_parser = parse_ratio, value_name = "RATIO", default_value_t = 0.01)]
    pub traces_sampler_arg: f64,
}

fn parse_ratio(text: &str) -> Result<f64, String> {
    let ratio = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.ok_or_else(|| "must be a number from 0 to 1".to_owned())
}

/// The loop that pulls messages.
#[derive(Debug, Clone, Args)]
pub struct WorkerConfig {
    /// Messages taken at once at most: 1 to 5000.
    #[arg(long, env = "PASSBOOK_WORKER_BATCH", default_value_t = 500,
          value_parser = clap::value_parser!(u16).range(1..=5000))]
    pub worker_batch: u16,
    /// Loops for each consumer in this process: 1 to 32.
    #[arg(long, env = "PASSBOOK_WORKERS", default_value_t = 1,
          value_parser = clap::value_parser!(u8).range(1..=32))]
    pub workers: u8,
}

/// Everything that any service of ours has.
#[derive(Debug, Clone, Args)]
pub struct ServiceConfig {
    /// Logs, the admin port and the stop.
    #[command(flatten)]
    pub process: ProcessConfig,
    /// The service's own database.
    #[command(flatten)]
    pub database: DatabaseConfig,
    /// The broker.
    #[command(flatten)]
    pub nats: NatsConfig,
    /// The loops that pull messages.
    #[command(flatten)]
    pub worker: WorkerConfig,
    /// Spans for a collector.
    #[command(flatten)]
    pub traces: TracesConfig,
}

impl ServiceConfig {
    /// Finds what can't be used, before a port is bound.
    ///
    /// # Errors
    /// Names the setting.
    pub fn check(&self) -> anyhow::Result<()> {
        crate::postgres::options(&self.database)?;
        crate::nats::servers(&self.nats)?;
        crate::export::endpoint(&self.traces)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_needs_its_unit() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        for text in ["", "5", "s", "-1s", "1.5s", "5h", "5 s"] {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_ratio_is_a_part_of_one() {
        assert_eq!(parse_ratio("0.05"), Ok(0.05));
        for text in ["", "-0.1", "1.1", "5%", "NaN"] {
            assert!(parse_ratio(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_secret_does_not_show_itself() {
        let secret: Secret = "hunter2".parse().unwrap();
        assert_eq!(format!("{secret:?}"), "(secret)");
    }
}
