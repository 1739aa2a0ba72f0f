//! `passbook dev demo`

use std::{io, process::ExitCode};

use anyhow::Result;
use clap::Args;
use devstack::ProxyPort;

use super::{
    demo_steps,
    run_stack::{Next, with_stack},
    stack_arguments::StackArguments,
};
use crate::output::{self, Format, Output};

/// Start the whole system, move some money, check every figure, and stop.
///
/// Exits with 1 when a figure is wrong.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    #[command(flatten)]
    stack: StackArguments,
    /// Port of the API on 127.0.0.1; 0 for any free port.
    #[arg(long, default_value_t = 0)]
    port: u16,
    #[command(flatten)]
    format: Format,
}

impl Demo {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let dir = std::path::absolute(self.stack.dir())?;
        let options = self.stack.options(ProxyPort::Exact(self.port))?;
        with_stack(options, async |file| {
            let report = match self.format.output {
                Output::Table => demo_steps::run(file, &dir, &mut io::stdout()).await?,
                Output::Json => {
                    let report = demo_steps::run(file, &dir, &mut io::stderr()).await?;
                    output::json(&report)?;
                    report
                }
            };
            Ok(Next::Stop(report.exit_code()))
        })
        .await
    }
}
