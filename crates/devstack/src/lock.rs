//! The lock of a stack's folder: at most one stack runs in it. The supervisor
//! and each of its children hold the lock as long as they live.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{Seek, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tokio::time::{Instant, sleep};
use tracing::info;

use crate::{
    procfs::alive,
    stack_dir::{is_stack, shell_argument},
    supervisor::GRACE_PERIOD,
};

pub(crate) const NAME: &str = "lock";
const POLL: Duration = Duration::from_millis(20);
/// How long the children of a killed supervisor may live on: their grace
/// period, and some seconds more.
const ORPHANS_TIMEOUT: Duration = GRACE_PERIOD.saturating_add(Duration::from_secs(10));

/// Takes the lock of the folder `dir` for this process. If the supervisor
/// before was killed, waits until its children have ended.
///
/// # Errors
/// If a stack runs in the folder, or its children do not end in time.
pub(crate) async fn take(dir: &Path) -> Result<File> {
    let path = dir.join(NAME);
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let open = || options.open(&path).with_context(|| path.display().to_string());
    let mut file = open()?;
    let deadline = Instant::now() + ORPHANS_TIMEOUT;
    let mut logged = false;
    loop {
        if try_lock(&file)? {
            if is_file_at(&file, &path)? {
                break;
            }
            // `dev down --remove-data` has removed the file meanwhile.
            file = open()?;
            continue;
        }
        let holder = read_pid(dir);
        if let Some(pid) = holder.filter(|pid| alive(*pid)) {
            bail!(
                "a stack already runs in {} (pid {pid}): `passbook dev down --dir {}` stops it",
                dir.display(),
                shell_argument(dir)
            );
        }
        if Instant::now() > deadline {
            bail!(
                "processes of a killed stack still hold {} after {} s: end them, then try again",
                path.display(),
                ORPHANS_TIMEOUT.as_secs()
            );
        }
        if !logged {
            info!("waiting until the processes of a killed stack have ended");
            logged = true;
        }
        sleep(POLL).await;
    }
    let mut write = || -> std::io::Result<()> {
        file.set_len(0)?;
        file.rewind()?;
        write!(file, "{}", std::process::id())
    };
    write().with_context(|| format!("writing {}", path.display()))?;
    Ok(file)
}

/// Whether `path` is still the path of the open `file`.
fn is_file_at(file: &File, path: &Path) -> Result<bool> {
    let open = file.metadata().with_context(|| path.display().to_string())?;
    let found = fs::metadata(path);
    Ok(found.is_ok_and(|found| (found.dev(), found.ino()) == (open.dev(), open.ino())))
}

/// The process id of the supervisor that holds the lock of the folder `dir`.
/// Its stack may still be starting, or already be stopping. `None` if `dir` is not
/// the folder of a stack: another program's file may have the lock's name.
///
/// # Errors
/// If the lock file can't be opened.
pub fn supervisor_pid(dir: &Path) -> Result<Option<u32>> {
    if !is_stack(dir) {
        return Ok(None);
    }
    let path = dir.join(NAME);
    let file = match File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.with_context(|| path.display().to_string())?,
    };
    Ok(if try_lock(&file)? { None } else { read_pid(dir) })
}

fn try_lock(file: &File) -> Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error).context("locking the stack's folder"),
    }
}

fn read_pid(dir: &Path) -> Option<u32> {
    fs::read_to_string(dir.join(NAME)).ok()?.trim().parse().ok()
}
