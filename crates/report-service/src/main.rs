//! The `report-service` process.

use std::process::ExitCode;

use report_service::{Config, run};
use runtime::http::api::Listeners;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let config: Config = runtime::setting::parse();
    runtime::tasks::run(config.service.process.threads, start(config))
}

async fn start(config: Config) -> anyhow::Result<()> {
    runtime::telemetry::logs::start(&config.service.process.logs)?;
    let metrics = runtime::telemetry::metrics::start()?;
    config.check()?;
    let stop = runtime::tasks::stop_on_signal()?;
    let listeners = Listeners::bind(config.api.listen, config.service.process.admin_listen)?;
    tracing::info!(api = %listeners.api.local_addr(), admin = %listeners.admin.local_addr(),
        version = env!("CARGO_PKG_VERSION"), "starting");
    run(config, listeners, metrics, stop).await
}
