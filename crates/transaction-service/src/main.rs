//! The `transaction-service` process.

use anyhow::Context;
use clap::Parser;
use tokio::net::TcpListener;
use transaction_service::{Config, run};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    let metrics = runtime::telemetry::start(&config.process)?;
    let stop = runtime::tasks::stop_on_signal()?;
    let address = config.process.admin_listen;
    let admin = TcpListener::bind(address)
        .await
        .with_context(|| format!("PASSBOOK_ADMIN_LISTEN: listening on {address}"))?;
    tracing::info!(admin = %admin.local_addr()?, version = env!("CARGO_PKG_VERSION"), "starting");
    let outcome = run(config, admin, metrics, stop).await;
    match &outcome {
        Ok(()) => tracing::info!("stopped"),
        Err(error) => tracing::error!(error = format!("{error:#}"), "stopped"),
    }
    outcome
}
