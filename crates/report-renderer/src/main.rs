//! The `report-renderer` process: an HTTP function that renders reports.

use std::process::ExitCode;

use report_renderer::function::{Config, run};
use runtime::http::listener::listen;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // One thread answers requests. Each rendering has a thread of its own.
    runtime::tasks::run(1, start(runtime::setting::parse()))
}

async fn start(config: Config) -> anyhow::Result<()> {
    runtime::telemetry::logs::start(&config.logs)?;
    config.function.check()?;
    let stop = runtime::tasks::stop_on_signal()?;
    let listening = listen("PASSBOOK_LISTEN", config.function.listen)?;
    tracing::info!(listen = %listening.local_addr(), version = env!("CARGO_PKG_VERSION"),
        "starting");
    run(config, listening, stop).await
}
