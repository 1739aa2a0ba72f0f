//! The folder of a development stack, and the state of the stack in it.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use clap::Args;
use devstack::{StackFile, stack_dir};

/// The folder of a development stack.
#[derive(Debug, Clone, Args)]
pub(crate) struct StackDir {
    /// Folder of the development stack: its data, secrets and logs.
    #[arg(long, value_name = "DIR", default_value = ".passbook")]
    dir: PathBuf,
}

/// The state of the stack in a folder.
pub(crate) enum StackState {
    /// The stack became ready. Its supervisor may have been killed since.
    Ready(Box<StackFile>),
    /// No stack is ready; the text says why and what to do.
    NotReady(String),
}

impl StackDir {
    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }

    /// The state of the stack. The stack file alone proves nothing: a killed supervisor leaves the
    /// file behind. So the lock's holder must be the supervisor named in the file.
    ///
    /// # Errors
    /// When the lock or the stack file can't be read.
    pub(crate) fn state(&self) -> Result<StackState> {
        let (dir, argument) = (self.dir.display(), stack_dir::shell_argument(&self.dir));
        let Some(supervisor) = devstack::supervisor_pid(&self.dir)? else {
            return Ok(StackState::NotReady(format!(
                "no stack runs in {dir}: start one with `passbook dev up --dir {argument}`"
            )));
        };
        let file = StackFile::find(&self.dir)?.filter(|file| file.supervisor == supervisor);
        Ok(match file {
            Some(file) => StackState::Ready(Box::new(file)),
            None => StackState::NotReady(format!(
                "the stack in {dir} is starting or stopping (pid {supervisor}): try again later"
            )),
        })
    }

    /// The running stack.
    ///
    /// # Errors
    /// When no stack is ready, or its supervisor was killed; with how to start it.
    pub(crate) fn running_stack(&self) -> Result<StackFile> {
        let file = match self.state()? {
            StackState::Ready(file) => *file,
            StackState::NotReady(reason) => bail!(reason),
        };
        ensure!(
            devstack::alive(file.supervisor),
            "the stack in {} was killed: start it again with `passbook dev up --dir {}`",
            self.dir.display(),
            stack_dir::shell_argument(&self.dir)
        );
        Ok(file)
    }
}
