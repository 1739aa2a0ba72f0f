//! What the tool tells on stderr while it works: short lines for a person,
//! each with the seconds since the start.

use std::{
    fmt,
    io::{self, IsTerminal},
    time::Instant,
};

use tracing_subscriber::{
    EnvFilter,
    fmt::{format::Writer, time::FormatTime},
};

/// Starts logging; PASSBOOK_LOG sets what is logged.
pub(crate) fn init() {
    let filter = EnvFilter::try_from_env("PASSBOOK_LOG")
        .unwrap_or_else(|_| EnvFilter::new("warn,passbook=info,devstack=info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_timer(SinceStart(Instant::now()))
        .with_target(false)
        .init();
}

struct SinceStart(Instant);

impl FormatTime for SinceStart {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{:7.2} s", self.0.elapsed().as_secs_f64())
    }
}
