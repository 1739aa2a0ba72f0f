//! Commands for development: the development stack, its faults and the load generator. They exist
//! only with the feature `dev`.

mod demo;
mod demo_statement;
mod demo_steps;
mod detach;
mod down;
mod exec_bound;
mod fault;
mod load;
mod run_stack;
mod signals;
mod stack_arguments;
mod status;
mod summary;
mod up;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

pub(crate) use exec_bound::ExecBound;
pub(crate) use load::Load;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Up(up::Up),
    Demo(demo::Demo),
    Down(down::Down),
    Status(status::Status),
    #[command(subcommand)]
    Fault(fault::Command),
}

impl Command {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        match self {
            Self::Up(up) => up.run().await,
            Self::Demo(demo) => demo.run().await,
            Self::Down(down) => down.run().await,
            Self::Status(status) => status.run().await,
            Self::Fault(command) => command.run().await,
        }
    }
}
