//! Logs on stderr: short lines for a person, each with the seconds since the start.

use std::{
    env, fmt,
    io::{self, IsTerminal},
    time::Instant,
};

use anyhow::{Context, Result};
use tracing_subscriber::{
    EnvFilter,
    fmt::{format::Writer, time::FormatTime},
};

const LEVELS: &str = "PASSBOOK_LOG";

/// Starts logging at the levels in PASSBOOK_LOG.
///
/// # Errors
/// When PASSBOOK_LOG is not a log filter. Logging starts with the default levels, so that the error
/// can be logged.
pub(crate) fn init() -> Result<()> {
    let default = || EnvFilter::new("warn,passbook=info,devstack=info");
    let requested = env::var_os(LEVELS).map_or_else(
        || Ok(default()),
        |levels| {
            let filter = EnvFilter::try_new(levels.to_string_lossy());
            filter.with_context(|| format!("{LEVELS}: {levels:?} is not a log filter"))
        },
    );
    let (filter, result) = match requested {
        Ok(filter) => (filter, Ok(())),
        Err(error) => (default(), Err(error)),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_timer(SinceStart(Instant::now()))
        .with_target(false)
        .init();
    result
}

struct SinceStart(Instant);

impl FormatTime for SinceStart {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{:7.2} s", self.0.elapsed().as_secs_f64())
    }
}
