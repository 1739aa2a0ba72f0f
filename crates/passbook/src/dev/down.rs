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

use crate::arguments::StackDir;

const POLL: Duration = Duration::from_millis(25);

/// Stop the stack in DIR, and wait until all its processes have exited.
#[derive(Debug, Args)]
pub(crate) struct Down {
    #[command(flatten)]
    dir: StackDir,
    /// Then remove the stack's data, secrets and logs from DIR. Also removes DIR if it is empty
    /// then, and PostgreSQL's data under /var/tmp if the stack had to store it there (see its log).
    /// Removes nothing that the stack did not make.
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
            let remaining = devstack::stack_dir::remove(dir).await?;
            info!("the data of {} is removed", dir.display());
            for path in remaining {
                info!("{} stays: the stack did not make it", path.display());
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn stop(dir: &Path, supervisor: u32) -> Result<()> {
    match kill(Pid::from_raw(i32::try_from(supervisor)?), Signal::SIGTERM) {
        // The supervisor was killed before; its children are exiting.
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => bail!("the supervisor (pid {supervisor}) can't be stopped: {error}"),
    }
    let deadline = Instant::now() + STOP_TIMEOUT;
    while devstack::supervisor_pid(dir)? == Some(supervisor) {
        if Instant::now() > deadline {
            bail!(
                "the supervisor (pid {supervisor}) still runs after {} s",
                STOP_TIMEOUT.as_secs()
            );
        }
        sleep(POLL).await;
    }
    info!("the stack in {} is stopped", dir.display());
    Ok(())
}
