//! Starts the stack's supervisor in a session of its own and waits until the
//! stack is ready.

use std::{
    env,
    fs::{self, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use devstack::{StackFile, stack_dir};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{process::Command, time::sleep};

use super::signals::Signals;

const POLL: Duration = Duration::from_millis(25);

/// Runs this command once more, in the background, and returns when its stack
/// is ready.
///
/// # Errors
/// When it ends before, with what it logged; or when a signal comes.
pub(super) async fn start(dir: &Path, signals: &mut Signals) -> Result<StackFile> {
    let path = stack_dir::logs(&stack_dir::create(dir)?).join("stack.log");
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
    let log = log.with_context(|| path.display().to_string())?;
    let from = usize::try_from(log.metadata()?.len())?;
    let arguments = env::args_os().skip(1).filter(|argument| argument != "--detach");
    let mut child = Command::new(env::current_exe()?)
        .args(arguments)
        .arg("--detached")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    let supervisor = child.id().context("it has only just been started")?;
    loop {
        if let Some(file) = StackFile::find(dir)?.filter(|file| file.supervisor == supervisor) {
            return Ok(file);
        }
        tokio::select! {
            status = child.wait() => {
                let log = fs::read(&path).unwrap_or_default();
                let log = String::from_utf8_lossy(log.get(from..).unwrap_or_default());
                bail!("the stack did not start ({}):\n{}", status?, log.trim_end());
            }
            () = signals.stop() => {
                kill(Pid::from_raw(i32::try_from(supervisor)?), Signal::SIGTERM)?;
                child.wait().await?;
                bail!("the start was broken off");
            }
            () = sleep(POLL) => {}
        }
    }
}
