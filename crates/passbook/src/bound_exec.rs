//! `passbook bound-exec`: becomes a child of the development stack that dies
//! with its supervisor. Not for people.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::Args;
use devstack::{PdeathsigCommand, User};
use nix::sys::signal::Signal;

/// Become a program that ends when the process that started it does.
#[derive(Debug, Args)]
pub(crate) struct BoundExec {
    /// The process that starts this one.
    #[arg(long, value_name = "PID")]
    parent: u32,
    /// What the program is sent when that process dies.
    #[arg(long)]
    signal: Signal,
    /// Whom to run it as, if not the present user.
    #[arg(long, requires = "gid")]
    uid: Option<u32>,
    /// The group to run it as.
    #[arg(long, requires = "uid")]
    gid: Option<u32>,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

impl BoundExec {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let user = self.uid.zip(self.gid).map(|(uid, gid)| User { uid, gid });
        let mut command = self.command.into_iter();
        let program = command.next().map(PathBuf::from).context("no program is given")?;
        let arguments = command.collect();
        let Self { parent, signal, .. } = self;
        match (PdeathsigCommand { parent, signal, user, program, arguments }).exec()? {}
    }
}
