//! Wrong clocks of real processes, by Debian's libfaketime. It works for programs that take
//! the time from the C library: the services and PostgreSQL, but not nats-server.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// The library, wherever Debian's architecture has it.
#[must_use]
pub fn library() -> PathBuf {
    find().expect("libfaketime is missing: install Debian's package libfaketime")
}

/// As [`library`], if it is installed.
#[must_use]
pub fn find() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").unwrap().map(|folder| folder.unwrap().path());
    let library = |folder: &Path| folder.join("faketime/libfaketimeMT.so.1");
    folders.map(|folder| library(&folder)).find(|library| library.is_file())
}

/// The clock of some processes of a stack. It can jump while they run.
#[derive(Debug)]
pub struct Clock {
    file: PathBuf,
    /// The programs, separated by commas.
    programs: &'static str,
}

impl Clock {
    /// A right clock for these programs, read from this file.
    #[must_use]
    pub fn right(file: PathBuf, programs: &'static str) -> Self {
        let clock = Self { file, programs };
        clock.jump("+0");
        clock
    }

    /// Makes the clock wrong by this offset, such as `-1d` or `+600`. The processes notice
    /// within a second.
    pub fn jump(&self, offset: &str) {
        // A reader never sees an empty file.
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{offset}\n")).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o644)).unwrap();
        fs::rename(new, &self.file).unwrap();
    }

    /// The settings of the stack's processes, as `NAME=value`.
    #[must_use]
    pub fn settings(&self) -> Vec<String> {
        vec![
            format!("LD_PRELOAD={}", library().display()),
            format!("FAKETIME_TIMESTAMP_FILE={}", self.file.display()),
            format!("FAKETIME_ONLY_CMDS={}", self.programs),
            "FAKETIME_CACHE_DURATION=1".to_owned(),
            "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
        ]
    }
}
