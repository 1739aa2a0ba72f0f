//! Entries in a file, one JSON object per line. They take no memory.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
};

use crate::{Entries, Entry};

/// Writes entries into a file.
#[derive(Debug)]
pub struct EntryWriter(BufWriter<File>);

impl EntryWriter {
    /// Creates the file, or truncates it.
    ///
    /// # Errors
    /// If the file can't be created.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self(BufWriter::new(File::create(path)?)))
    }

    /// Appends an entry.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn write(&mut self, entry: &Entry) -> io::Result<()> {
        serde_json::to_writer(&mut self.0, entry)?;
        self.0.write_all(b"\n")
    }

    /// Writes what is buffered.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn finish(mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// A file of entries.
#[derive(Debug, Clone)]
pub struct EntryFile {
    path: PathBuf,
    /// The number of lines before the first entry.
    skip: usize,
}

impl EntryFile {
    /// The entries of this file.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), skip: 0 }
    }

    /// The entries after the first line of this file.
    #[must_use]
    pub fn after_first_line(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), skip: 1 }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Entries for EntryFile {
    fn open(&self) -> io::Result<Box<dyn Iterator<Item = io::Result<Entry>> + '_>> {
        let lines = BufReader::new(File::open(&self.path)?).lines().skip(self.skip);
        Ok(Box::new(lines.map(|line| Ok(serde_json::from_str(&line?)?))))
    }
}
