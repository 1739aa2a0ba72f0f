//! Logs of the process, to stderr.

use std::io::IsTerminal;

use anyhow::Context;
use clap::{Args, ValueEnum};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Text for a terminal.
    Human,
}

/// Settings of the log.
#[derive(Debug, Clone, Args)]
pub struct LogConfig {
    /// Log filter: a level, or levels per module (the syntax of tracing's EnvFilter).
    #[arg(long, env = "PASSBOOK_LOG", default_value = "info")]
    pub log: String,
    /// Format of log lines.
    #[arg(long, env = "PASSBOOK_LOG_FORMAT", value_enum, default_value = "json")]
    pub log_format: LogFormat,
}

/// Starts logging, including panics. Call once per process.
///
/// # Errors
/// If the filter is malformed, or logging was started before.
pub fn start(config: &LogConfig) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.log)
        .with_context(|| format!("PASSBOOK_LOG: {:?} is not a log filter", config.log))?;
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    match config.log_format {
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
        LogFormat::Human => registry.with(lines).try_init(),
    }
    .context("starting the log")?;
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "panicked")));
    Ok(())
}
