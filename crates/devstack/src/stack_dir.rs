//! The folder of a stack: what is in it, and who may look into it.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use nix::unistd::geteuid;

use crate::{
    Secrets, lock,
    postgres_home::{SEARCHABLE, shelter},
};

/// Makes the folder `dir` of a stack, and the one of its logs, for this user
/// alone; for root, PostgreSQL's user can pass through it. One that is there
/// stays as it is. Returns its absolute path.
///
/// # Errors
/// When it can't be made.
pub fn make(dir: &Path) -> Result<PathBuf> {
    let make = || -> io::Result<PathBuf> {
        if !dir.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
            if geteuid().is_root() {
                fs::set_permissions(dir, Permissions::from_mode(SEARCHABLE))?;
            }
        }
        let dir = fs::canonicalize(dir)?;
        DirBuilder::new().recursive(true).mode(0o700).create(logs(&dir))?;
        Ok(dir)
    };
    make().with_context(|| format!("the stack's folder {}", dir.display()))
}

/// Where the stack in the folder `dir` writes its logs, one file a process.
#[must_use]
pub fn logs(dir: &Path) -> PathBuf {
    dir.join("logs")
}

/// Everything that a stack puts into its folder; the lock last, since it
/// keeps another stack from starting there meanwhile.
const FOLDERS: [&str; 7] =
    ["postgres", "postgres.new", "nats", "nats-0", "nats-1", "nats-2", "logs"];
const FILES: [&str; 7] = [
    "nats.conf",
    "nats-0.conf",
    "nats-1.conf",
    "nats-2.conf",
    "stack.json",
    "secrets.json",
    "lock",
];

/// Removes all data of the stack in the folder `dir`, and the folder too if
/// nothing else is in it.
///
/// # Errors
/// When no stack was ever started there, or it still runs, or what is there
/// can't be removed.
pub async fn remove(dir: &Path) -> Result<()> {
    let secrets = Secrets::read(dir).context("this is no stack's folder")?;
    let _lock = lock::take(dir).await?;
    present(fs::remove_dir_all(shelter(&secrets)))?;
    for folder in FOLDERS {
        present(fs::remove_dir_all(dir.join(folder))).with_context(|| folder.to_owned())?;
    }
    for file in FILES {
        present(fs::remove_file(dir.join(file))).with_context(|| file.to_owned())?;
    }
    match fs::remove_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        other => other.with_context(|| dir.display().to_string()),
    }
}

/// What is not there need not be removed.
fn present(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
