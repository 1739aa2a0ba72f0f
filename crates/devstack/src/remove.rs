//! Removes files and folders that may be missing.

use std::{
    fs,
    io::{self, ErrorKind},
    path::Path,
};

use anyhow::{Context, Result};

/// Removes a file if it exists.
///
/// # Errors
/// If it exists and can't be removed; names its path.
pub(crate) fn file(path: &Path) -> Result<()> {
    or_missing(fs::remove_file(path)).with_context(|| format!("removing {}", path.display()))
}

/// Removes a folder and everything in it if it exists.
///
/// # Errors
/// If it exists and can't be removed; names its path.
pub(crate) fn dir_all(path: &Path) -> Result<()> {
    or_missing(fs::remove_dir_all(path)).with_context(|| format!("removing {}", path.display()))
}

fn or_missing(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
