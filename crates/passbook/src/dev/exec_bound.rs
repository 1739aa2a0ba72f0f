//! `passbook bound-exec`: replaces this process with a program bound to its parent process. Used by
//! the development stack for its children, not by people.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::Args;
use devstack::{PdeathsigCommand, User};
use nix::sys::signal::Signal;

/// Run a program bound to its parent: the kernel signals the program when the parent dies.
#[derive(Debug, Args)]
pub(crate) struct ExecBound {
    /// Id of the parent process.
    #[arg(long, value_name = "PID")]
    parent: u32,
    /// Signal for the program when the parent dies.
    #[arg(long)]
    signal: Signal,
    /// User to run the program as, if not the current one.
    #[arg(long, requires = "gid")]
    uid: Option<u32>,
    /// Group to run the program as.
    #[arg(long, requires = "uid")]
    gid: Option<u32>,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

impl ExecBound {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let user = self.uid.zip(self.gid).map(|(uid, gid)| User { uid, gid });
        let mut command = self.command.into_iter();
        let program = command.next().map(PathBuf::from).context("no program is given")?;
        let arguments = command.collect();
        let Self { parent, signal, .. } = self;
        match (PdeathsigCommand { parent, signal, user, program, arguments }).exec()? {}
    }
}
