//! The `transaction-service` process.

// The types of its nested futures are deeper than the default, 128, when a release is built.
#![recursion_limit = "256"]

use std::process::ExitCode;

use runtime::http::listener::listen;
use transaction_service::{Config, run};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let config: Config = runtime::setting::parse();
    runtime::tasks::run(config.service.process.threads, start(config))
}

async fn start(config: Config) -> anyhow::Result<()> {
    runtime::telemetry::logs::start(&config.service.process.logs)?;
    let metrics = runtime::telemetry::metrics::start()?;
    config.service.check()?;
    let stop = runtime::tasks::stop_on_signal()?;
    let admin = listen("PASSBOOK_ADMIN_LISTEN", config.service.process.admin_listen)?;
    tracing::info!(admin = %admin.local_addr(), version = env!("CARGO_PKG_VERSION"), "starting");
    run(config, admin, metrics, stop).await
}
