//! Files that appear under their names once they are complete.

use std::{fs, io::ErrorKind, path::Path};

use anyhow::{Context, Result, bail, ensure};
use tempfile::NamedTempFile;

/// A file to write.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewFile<'a> {
    pub(crate) path: &'a Path,
    /// Replace an existing file.
    pub(crate) force: bool,
}

impl NewFile<'_> {
    /// # Errors
    /// When the file exists and may not be replaced.
    pub(crate) fn check_free(&self) -> Result<()> {
        let is_free = self.force || fs::symlink_metadata(self.path).is_err();
        ensure!(is_free, "{} exists: give --force to replace it", self.path.display());
        Ok(())
    }

    /// A file in the same folder, without its final name. It is removed unless it is given one.
    ///
    /// # Errors
    /// When it can't be created.
    pub(crate) fn temporary(&self) -> Result<NamedTempFile> {
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let folder = parent.unwrap_or(Path::new("."));
        tempfile::Builder::new()
            .prefix(".passbook-")
            .suffix(".partial")
            .tempfile_in(folder)
            .with_context(|| format!("creating a file in {}", folder.display()))
    }

    /// Gives a complete file its name.
    ///
    /// # Errors
    /// When the file exists and may not be replaced, or the disk fails.
    pub(crate) fn persist(&self, file: NamedTempFile) -> Result<()> {
        let path = self.path;
        let saved = file.as_file().sync_all().and_then(|()| {
            let saved = if self.force { file.persist(path) } else { file.persist_noclobber(path) };
            saved.map(drop).map_err(|error| error.error)
        });
        match saved {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                bail!("{} exists: give --force to replace it", path.display())
            }
            other => other.with_context(|| path.display().to_string()),
        }
    }
}
