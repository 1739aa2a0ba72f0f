//! Failpoints: named places between two effects where a test crashes a process, to
//! check the data that remain and the process that continues.
//!
//! Only debug builds have them. In a release build a failpoint does nothing.
//!
//! `PASSBOOK_CRASH_POINTS` names a directory. A file `<point>/<name>` in it arms
//! a point: the process crashes there as soon as every line of the file occurs
//! in the `Debug` text of the data in process. A test can therefore arm a point for
//! its own account only. Before the crash the file is moved to
//! `reached/<name>.<process id>`. Only one process can move the file, so exactly
//! one process crashes.

use std::fmt::Debug;

/// Crashes here, if this point is armed for the data in process.
#[inline]
pub fn point(name: &'static str, data: &impl Debug) {
    if let Some(armed) = armed(name, data) {
        armed.crash();
    }
}

pub use build::{Armed, armed, warn_if_armable};

#[cfg(not(debug_assertions))]
mod build {
    use std::{convert::Infallible, fmt::Debug};

    /// Does not exist in this build.
    #[derive(Debug)]
    pub struct Armed(Infallible);

    /// Nothing is armed in this build.
    #[inline]
    pub const fn armed(_: &'static str, _: &impl Debug) -> Option<Armed> {
        None
    }

    impl Armed {
        /// Never called in this build.
        pub const fn crash(self) -> ! {
            match self.0 {}
        }
    }

    /// This build has no failpoints.
    #[inline]
    pub const fn warn_if_armable() {}
}

#[cfg(debug_assertions)]
mod build {
    use std::{fmt::Debug, fs, path::PathBuf, process, sync::LazyLock};

    static DIRECTORY: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| std::env::var_os("PASSBOOK_CRASH_POINTS").map(PathBuf::from));

    /// A claimed point: this process must crash. The caller first does the work that
    /// precedes the crash, such as half of a batch.
    #[must_use]
    #[derive(Debug)]
    pub struct Armed(&'static str);

    /// Claims this point, if it is armed for the data in process.
    pub fn armed(point: &'static str, data: &impl Debug) -> Option<Armed> {
        let directory = DIRECTORY.as_ref()?;
        let mut text = String::new();
        for file in fs::read_dir(directory.join(point)).ok()?.flatten() {
            // Another process may have claimed the point.
            let Ok(lines) = fs::read_to_string(file.path()) else { continue };
            if text.is_empty() {
                text = format!("{data:?}");
            }
            if lines.lines().all(|line| text.contains(line)) {
                let name = format!("{}.{}", file.file_name().to_string_lossy(), process::id());
                if fs::rename(file.path(), directory.join("reached").join(name)).is_ok() {
                    return Some(Armed(point));
                }
            }
        }
        None
    }

    impl Armed {
        /// Crashes like SIGKILL: no cleanup, no message to any peer.
        pub fn crash(self) -> ! {
            tracing::error!(point = self.0, "reached a crash point");
            process::abort();
        }
    }

    /// Warns that this process can crash on purpose.
    pub fn warn_if_armable() {
        if let Some(directory) = &*DIRECTORY {
            tracing::warn!(
                directory = %directory.display(),
                "PASSBOOK_CRASH_POINTS is set, for tests only: this process can crash on purpose"
            );
        }
    }
}
