//! Removes files and folders that may be missing.

use std::{
    fs,
    io::{self, ErrorKind},
    path::Path,
};

use anyhow::{Context, Result};

use crate::procfs::alive;

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

/// Removes a folder if it is empty.
///
/// # Errors
/// If it is empty and can't be removed; names its path.
pub(crate) fn empty_dir(path: &Path) -> Result<()> {
    match fs::remove_dir(path) {
        // A mount point is busy; its folder belongs to the machine.
        Err(error)
            if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::ResourceBusy) =>
        {
            Ok(())
        }
        other => or_missing(other).with_context(|| format!("removing {}", path.display())),
    }
}

/// Removes what killed processes have left in `folder`: each entry named `prefix` and
/// the id of a process that is gone.
///
/// # Errors
/// If an entry can't be removed; names its path.
pub(crate) fn left_behind(folder: &Path, prefix: &str) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(prefix)?.parse().ok());
        if pid.is_some_and(|pid: u32| !alive(pid)) {
            dir_all(&entry.path())?;
        }
    }
    Ok(())
}

fn or_missing(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_processes_that_are_gone_left_behind_is_removed() {
        let folder = std::env::temp_dir().join(format!("passbook-remove-{}", std::process::id()));
        let own = format!("x.partial-{}", std::process::id());
        for name in ["x.partial-4194305", "x.partial-", "x.partial-1a", "y.partial-4194305", &own] {
            fs::create_dir_all(folder.join(name).join("file")).unwrap();
        }
        left_behind(&folder, "x.partial-").unwrap();
        let entries = fs::read_dir(&folder).unwrap().flatten();
        let mut names: Vec<_> = entries.map(|e| e.file_name().into_string().unwrap()).collect();
        names.sort();
        let mut expected = ["x.partial-", "x.partial-1a", "y.partial-4194305", &own];
        expected.sort_unstable();
        assert_eq!(names, expected);
        fs::remove_dir_all(folder).unwrap();
    }
}
