//! One stack a folder: the lock that a supervisor, and with it each of its
//! children, holds as long as it lives.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::{errno::Errno, sys::signal::kill, unistd::Pid};
use tokio::time::{Instant, sleep};
use tracing::info;

const NAME: &str = "lock";
const POLL: Duration = Duration::from_millis(20);
/// How long children may live on after their supervisor was killed: the
/// services' grace, and a little.
const LEFT_OVERS_WITHIN: Duration = Duration::from_secs(40);

/// Takes the lock of the folder `dir` for this process.
///
/// # Errors
/// When a stack runs there already.
pub(crate) async fn take(dir: &Path) -> Result<File> {
    let path = dir.join(NAME);
    let open = || -> Result<File> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        options.open(&path).with_context(|| path.display().to_string())
    };
    let mut file = open()?;
    let deadline = Instant::now() + LEFT_OVERS_WITHIN;
    let mut told = false;
    while !try_lock(&file)? {
        let holder = holder(dir);
        if let Some(pid) = holder.filter(|pid| alive(*pid)) {
            let dir = dir.display();
            bail!("already running in {dir} (pid {pid}): `passbook dev down --dir {dir}` stops it");
        }
        if Instant::now() > deadline {
            bail!("processes of a killed stack still hold {}", path.display());
        }
        if !told {
            info!("waiting for the processes of a killed stack to end");
            told = true;
        }
        sleep(POLL).await;
    }
    file.set_len(0)?;
    file.rewind()?;
    write!(file, "{}", std::process::id())?;
    Ok(file)
}

/// The supervisor of the stack that runs in the folder `dir`, or is about to
/// start or to stop.
///
/// # Errors
/// When the lock can't be looked at.
pub fn supervisor(dir: &Path) -> Result<Option<u32>> {
    let path = dir.join(NAME);
    let file = match File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.with_context(|| path.display().to_string())?,
    };
    Ok(if try_lock(&file)? { None } else { holder(dir) })
}

fn try_lock(file: &File) -> Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error).context("locking"),
    }
}

fn holder(dir: &Path) -> Option<u32> {
    fs::read_to_string(dir.join(NAME)).ok()?.trim().parse().ok()
}

/// Whether there is such a process, whoever it belongs to. One that has ended
/// and that its parent has not asked about yet is none.
#[must_use]
pub fn alive(pid: u32) -> bool {
    i32::try_from(pid).is_ok_and(|pid| kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH))
        && !is_zombie(pid)
}

/// Where there is no `/proc`, nothing is known of it.
fn is_zombie(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state comes behind the name, which may hold anything.
    stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_zombie_is_not_alive() {
        assert!(alive(std::process::id()));
        let mut child = Command::new("true").spawn().unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while alive(child.id()) {
            assert!(std::time::Instant::now() < deadline);
            std::thread::sleep(POLL);
        }
        child.wait().unwrap();
    }
}
