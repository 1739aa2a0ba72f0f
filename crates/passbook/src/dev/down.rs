//! `passbook dev down`

use std::{path::Path, process::ExitCode, time::Duration};

use anyhow::{Result, bail};
use clap::Args;
use devstack::STOP_TIMEOUT;
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::time::{Instant, sleep};
use tracing::info;

use crate::cli::Dir;

const POLL: Duration = Duration::from_millis(25);

/// Stop the stack that runs in DIR, and wait until all of it is gone.
#[derive(Debug, Args)]
pub(crate) struct Down {
    #[command(flatten)]
    dir: Dir,
    /// Then remove what the stack kept in DIR: its data, secrets and logs, and
    /// DIR itself unless there is something else in it. PostgreSQL's data is
    /// removed too where it had to be put under /var/tmp, as its log told.
    #[arg(long)]
    remove_data: bool,
}

impl Down {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let dir = self.dir.path();
        match devstack::supervisor_pid(dir)? {
            Some(supervisor) => stop(dir, supervisor).await?,
            None => info!("no stack runs in {}", dir.display()),
        }
        if self.remove_data && dir.is_dir() {
            devstack::stack_dir::remove(dir).await?;
            info!("the data of {} is removed", dir.display());
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn stop(dir: &Path, supervisor: u32) -> Result<()> {
    match kill(Pid::from_raw(i32::try_from(supervisor)?), Signal::SIGTERM) {
        // Killed before: its children are on their way out.
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => bail!("process {supervisor} can't be stopped: {error}"),
    }
    let deadline = Instant::now() + STOP_TIMEOUT;
    while devstack::supervisor_pid(dir)? == Some(supervisor) {
        if Instant::now() > deadline {
            bail!("process {supervisor} is still there after {} s", STOP_TIMEOUT.as_secs());
        }
        sleep(POLL).await;
    }
    info!("the stack in {} is stopped", dir.display());
    Ok(())
}
