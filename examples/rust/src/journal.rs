//! A file with a line of JSON for each entry. An entry that was appended survives a crash of the
//! process and of the machine.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    path::Path,
};

use anyhow::{Context, Result};
use serde::{Serialize, de::DeserializeOwned};

/// An open journal. Only one process has it open at a time.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    /// Bytes of the complete lines.
    length: u64,
}

impl Journal {
    /// Opens the journal or makes an empty one, and reads its entries.
    pub(crate) fn open<T: DeserializeOwned>(path: &Path) -> Result<(Self, Vec<T>)> {
        let context = || format!("opening {}", path.display());
        let file = OpenOptions::new().read(true).append(true).create(true).open(path);
        let mut file = file.with_context(context)?;
        file.try_lock().with_context(context)?;
        sync_folder(path)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).with_context(context)?;
        // A crash while a line was written leaves a part of it. Nothing has relied on it.
        let complete = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        text.truncate(complete);
        let length = complete.try_into()?;
        file.set_len(length)?;
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let entries = lines.map(serde_json::from_slice).collect::<Result<_, _>>();
        Ok((Self { file, length }, entries.with_context(context)?))
    }

    /// Appends an entry. It is on disk on return.
    pub(crate) fn append(&mut self, entry: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        let written = self.file.write_all(&line).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // As on a full disk: the next entry begins a line of its own.
            self.file.set_len(self.length)?;
            return Err(error.into());
        }
        self.length += u64::try_from(line.len())?;
        Ok(())
    }
}

/// Replaces the content of a file: after a crash it has the old or the new content.
pub(crate) fn replace(path: &Path, text: &str) -> Result<()> {
    let partial = path.with_extension("partial");
    let mut file = File::create(&partial)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&partial, path)?;
    sync_folder(path)
}

/// Makes the name of a new file durable.
fn sync_folder(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    Ok(File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?)
}
