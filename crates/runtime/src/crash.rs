//! Crash points: named places between two effects where a test lets a process
//! die, to see what that leaves and who goes on.
//!
//! Only a build with the feature `crash-points` has them, and only one without
//! optimisation can have the feature. In any other build a point is nothing.
//!
//! `PASSBOOK_CRASH_POINTS` names a folder. A file `<point>/<name>` in it arms
//! the point for what its lines name: the process dies there as soon as each
//! line occurs in what it has in hand, written as `Debug`. So a test can arm a
//! point for its own account, in one service among all that pass the point.
//! The file is moved to `reached/<name>.<process id>` before, which only one
//! process can do: it dies once.

use std::fmt::Debug;

#[cfg(all(feature = "crash-points", not(debug_assertions)))]
compile_error!("the feature crash-points is for tests: no release may be built with it");

/// Dies here, if this point is armed for what is in hand.
#[inline]
pub fn point(name: &'static str, in_hand: &impl Debug) {
    if let Some(armed) = armed(name, in_hand) {
        armed.crash();
    }
}

pub use build::{Armed, armed, warn};

#[cfg(not(feature = "crash-points"))]
mod build {
    use std::{convert::Infallible, fmt::Debug};

    /// There is none in this build.
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

    /// There is nothing to warn of in this build.
    #[inline]
    pub const fn warn() {}
}

#[cfg(feature = "crash-points")]
mod build {
    use std::{fmt::Debug, fs, path::PathBuf, process, sync::LazyLock};

    static FOLDER: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| std::env::var_os("PASSBOOK_CRASH_POINTS").map(PathBuf::from));

    /// A point that was armed for what is in hand: claimed, the process has to
    /// die now. What must happen before, such as half of a batch, is done first.
    #[must_use]
    #[derive(Debug)]
    pub struct Armed(&'static str);

    /// Claims this point, if it is armed for what is in hand.
    pub fn armed(point: &'static str, in_hand: &impl Debug) -> Option<Armed> {
        let folder = FOLDER.as_ref()?;
        let mut text = String::new();
        for file in fs::read_dir(folder.join(point)).ok()?.flatten() {
            // Another process may have been faster.
            let Ok(lines) = fs::read_to_string(file.path()) else { continue };
            if text.is_empty() {
                text = format!("{in_hand:?}");
            }
            if lines.lines().all(|line| text.contains(line)) {
                let name = format!("{}.{}", file.file_name().to_string_lossy(), process::id());
                if fs::rename(file.path(), folder.join("reached").join(name)).is_ok() {
                    return Some(Armed(point));
                }
            }
        }
        None
    }

    impl Armed {
        /// Dies, as at a kill: nothing is cleaned up, nothing is said to anybody.
        pub fn crash(self) -> ! {
            tracing::error!(point = self.0, "reached a crash point");
            process::abort();
        }
    }

    /// Says loudly what this build is.
    pub fn warn() {
        tracing::warn!(
            armed_in = ?*FOLDER,
            "built with the feature crash-points, for tests: this process dies when it is told to"
        );
    }
}
