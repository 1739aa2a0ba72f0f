//! `passbook dev`: the whole system on this machine.

mod demo;
mod detach;
mod down;
mod fault;
mod signals;
mod status;
mod summary;
mod up;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Up(up::Up),
    Demo(demo::Demo),
    Down(down::Down),
    Status(status::Status),
    #[command(subcommand)]
    Fault(fault::Command),
}

pub(crate) async fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Up(up) => up.run().await,
        Command::Demo(demo) => demo.run().await,
        Command::Down(down) => down.run().await,
        Command::Status(status) => status.run().await,
        Command::Fault(command) => command.run().await,
    }
}
