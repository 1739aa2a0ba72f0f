//! Files that only their owner may read, and that are replaced as a whole: a
//! reader sees the old contents or the new ones, never a part.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use anyhow::{Context, Result};

/// Writes `contents` to `path` with mode 0600.
///
/// # Errors
/// When the folder can't be written to.
pub(crate) fn write(path: &Path, contents: &[u8]) -> Result<()> {
    let mut name = path.file_name().context("a file has a name")?.to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let write = || -> std::io::Result<()> {
        // A left-over of a killed process may be there, with whatever mode.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(contents)?;
        fs::rename(&new, path)
    };
    write().with_context(|| format!("writing {}", path.display()))
}
