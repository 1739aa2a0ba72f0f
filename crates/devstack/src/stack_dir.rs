//! The folder of a stack: its contents and its access rights.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use nix::unistd::geteuid;

use crate::{
    lock,
    postgres::{SEARCHABLE, fallback_dir},
    remove, report_service,
    secrets::Secrets,
};

/// Creates the folder `dir` of a stack and the folder of its logs, both for
/// the present user only. If this is root, other users may pass through `dir`,
/// because PostgreSQL runs as one of them. Existing folders keep their modes.
/// Returns the absolute path of `dir`.
///
/// # Errors
/// If a folder can't be created.
pub fn create(dir: &Path) -> Result<PathBuf> {
    let create = || -> io::Result<PathBuf> {
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
    create().with_context(|| format!("creating the stack's folder {}", dir.display()))
}

/// Creates the folders of the report-service's files, for the present user
/// only. Removes the unfinished files of an earlier run.
///
/// # Errors
/// If a folder can't be created or emptied.
pub(crate) fn create_report_folders(dir: &Path) -> Result<()> {
    let scratch = report_service::scratch(dir);
    remove::dir_all(&scratch)?;
    for folder in [report_service::artifacts(dir), scratch] {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .with_context(|| format!("creating {}", folder.display()))?;
    }
    Ok(())
}

/// The folder of the logs of the stack in `dir`. Each process has one file.
#[must_use]
pub fn logs(dir: &Path) -> PathBuf {
    dir.join("logs")
}

/// Everything a stack creates in its folder.
const FOLDERS: [&str; 9] = [
    "postgres",
    "postgres.new",
    "nats",
    "nats-0",
    "nats-1",
    "nats-2",
    "artifacts",
    "scratch",
    "logs",
];
/// The lock is removed last, because it keeps another stack from starting in
/// the folder.
const FILES: [&str; 7] = [
    "nats.conf",
    "nats-0.conf",
    "nats-1.conf",
    "nats-2.conf",
    "stack.json",
    "secrets.json",
    "lock",
];

/// Removes all data of the stack in `dir`. Removes `dir` too, unless it holds
/// other files.
///
/// # Errors
/// If no stack was ever started in `dir`, the stack still runs, or a file
/// can't be removed.
pub async fn remove(dir: &Path) -> Result<()> {
    let secrets = Secrets::read(dir)
        .with_context(|| format!("{} is not the folder of a stack", dir.display()))?;
    let _lock = lock::take(dir).await?;
    remove::dir_all(&fallback_dir(&secrets)?)?;
    for folder in FOLDERS {
        remove::dir_all(&dir.join(folder))?;
    }
    for file in FILES {
        remove::file(&dir.join(file))?;
    }
    match fs::remove_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        other => other.with_context(|| format!("removing {}", dir.display())),
    }
}
