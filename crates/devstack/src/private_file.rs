//! Files with mode 0600, replaced atomically: a reader sees either the old
//! contents or the new ones, never a part, even after a loss of power.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use anyhow::{Context, Result};

use crate::remove;

/// Replaces the file at `path`, or creates it.
///
/// # Errors
/// If the folder is not writable.
pub(crate) fn write(path: &Path, contents: &[u8]) -> Result<()> {
    let mut name = path.file_name().context("a file has a name")?.to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    // A killed process may have left it behind, with any mode.
    remove::file(&new)?;
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().with_context(|| format!("writing {}", path.display()))
}
