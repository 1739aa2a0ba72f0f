//! `passbook dev up`

use std::{io, path::Path, process::ExitCode};

use anyhow::{Context, Result};
use clap::Args;
use devstack::{ProxyPort, StackFile};

use super::{
    demo_steps, detach,
    run_stack::{Next, with_stack},
    signals::Signals,
    stack_arguments::StackArguments,
    summary,
};
use crate::output::{Format, Output};

const DEFAULT_PORT: u16 = 8080;

/// Start the whole system and keep it running until Ctrl-C.
///
/// Finds PostgreSQL and nats-server or installs them, and starts them on free ports with their data
/// in DIR, which must be new or empty at the first start. Then starts the services, and a proxy with one HTTP address before them. The data is
/// kept for the next run. The environment variables PASSBOOK_WORKER_BATCH, PASSBOOK_WORKERS,
/// PASSBOOK_THREADS, PASSBOOK_DATABASE_CONNECTIONS and PASSBOOK_STREAM_STORAGE are passed to the
/// services, those that begin with PASSBOOK_REPORT_ or PASSBOOK_LLM_ to the report-service only, and
/// those that begin with PASSBOOK_WEBHOOK_ to the webhook-service only. Not passed are those that can
/// name a server, a folder or a credential of another system: a warning names them.
#[derive(Debug, Args)]
pub(crate) struct Up {
    #[command(flatten)]
    stack: StackArguments,
    /// Port of the API on 127.0.0.1; 0 for any free port. The default is 8080, or any free port if
    /// 8080 is taken.
    #[arg(long)]
    port: Option<u16>,
    /// Continue in the background once the system is ready. Stop it with `passbook dev down --dir
    /// DIR`.
    #[arg(long)]
    detach: bool,
    /// Move some money once the system is ready.
    #[arg(long)]
    demo: bool,
    /// Set by `--detach` for the process in the background.
    #[arg(long, hide = true, conflicts_with = "detach")]
    detached: bool,
    #[command(flatten)]
    format: Format,
}

impl Up {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let output = self.format.output;
        if self.detach {
            let mut signals = Signals::catch()?;
            let dir = self.stack.dir();
            let file = detach::start(dir, &mut signals).await?;
            return present(&file, dir, true, output, self.demo).await;
        }
        if self.detached {
            // A session of its own, so that no signal of the caller's terminal arrives here.
            nix::unistd::setsid().context("starting a session")?;
        }
        let port = self.port.map_or(ProxyPort::Preferred(DEFAULT_PORT), ProxyPort::Exact);
        let dir = self.stack.dir().to_owned();
        let options = self.stack.options(port)?;
        let show = !self.detached;
        with_stack(options, async |file| {
            if show {
                present(file, &dir, false, output, self.demo).await?;
            }
            Ok(Next::Stay)
        })
        .await
    }
}

/// Prints a summary of the ready stack in `dir`, and runs the demo if requested. For a stack in the
/// background, also prints the command to stop it.
async fn present(
    file: &StackFile,
    dir: &Path,
    is_detached: bool,
    output: Output,
    demo: bool,
) -> Result<ExitCode> {
    summary::print(file, is_detached.then_some(dir), output)?;
    if !demo {
        return Ok(ExitCode::SUCCESS);
    }
    // With JSON, stdout has the summary's document only.
    let report = match output {
        Output::Table => demo_steps::run(file, dir, &mut io::stdout()).await?,
        Output::Json => demo_steps::run(file, dir, &mut io::stderr()).await?,
    };
    Ok(report.exit_code())
}
