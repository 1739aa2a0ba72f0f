//! The `report-service` process.

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use report_service::{Config, Listeners, run};
use tokio::net::TcpListener;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let config = Config::parse();
    runtime::tasks::run(config.service.process.threads, start(config))
}

async fn start(config: Config) -> anyhow::Result<()> {
    runtime::telemetry::logs::start(&config.service.process.logs)?;
    let metrics = runtime::telemetry::metrics::start()?;
    config.check()?;
    let stop = runtime::tasks::stop_on_signal()?;
    let (api, admin) = (config.listen, config.service.process.admin_listen);
    let listeners = Listeners {
        api: TcpListener::bind(api)
            .await
            .with_context(|| format!("PASSBOOK_LISTEN: listening on {api}"))?,
        admin: TcpListener::bind(admin)
            .await
            .with_context(|| format!("PASSBOOK_ADMIN_LISTEN: listening on {admin}"))?,
    };
    tracing::info!(api = %listeners.api.local_addr()?, admin = %listeners.admin.local_addr()?,
        version = env!("CARGO_PKG_VERSION"), "starting");
    run(config, listeners, metrics, stop).await
}
