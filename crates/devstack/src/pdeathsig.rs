//! Children that die with their parent, even when it is killed by SIGKILL.
//!
//! Linux sends a process its parent-death signal when the *thread* that
//! started it ends, and forgets the signal at a change of user. So every
//! child is started from one thread that lives as long as the process (the
//! main thread, with a current-thread runtime), and starts as this program
//! once more, which changes the user, asks for the signal, and only then
//! becomes the program it stands for. Other systems have no such signal:
//! there, a killed supervisor leaves its children behind.

use std::{
    convert::Infallible, ffi::OsString, os::unix::process::CommandExt, path::PathBuf,
    process::Command,
};

use anyhow::{Context, Result, ensure};
use nix::{
    sys::signal::Signal,
    unistd::{Gid, Pid, Uid, getppid, setgid, setuid},
};

/// A user to run a program as, instead of the present one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// Its user id.
    pub uid: u32,
    /// Its group id. Supplementary groups are dropped.
    pub gid: u32,
}

/// A program to become, bound to the process that started this one.
#[derive(Debug)]
pub struct Bound {
    /// The process that started this one. When it is no longer the parent,
    /// the program is not started.
    pub parent: u32,
    /// What the program is sent when that process dies.
    pub signal: Signal,
    /// Whom to run it as.
    pub user: Option<User>,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

impl Bound {
    /// Becomes the program. Only returns when that fails.
    ///
    /// # Errors
    /// When the user can't be changed, the parent is gone, or the program
    /// can't be executed.
    pub fn exec(self) -> Result<Infallible> {
        if let Some(user) = self.user {
            become_user(user)?;
        }
        #[cfg(target_os = "linux")]
        nix::sys::prctl::set_pdeathsig(self.signal).context("asking for a parent-death signal")?;
        let parent = i32::try_from(self.parent).map(Pid::from_raw)?;
        // It may have died before the signal was asked for.
        ensure!(getppid() == parent, "the process {parent} that started this one is gone");
        let error = Command::new(&self.program).args(&self.arguments).exec();
        Err(error).with_context(|| self.program.display().to_string())
    }
}

fn become_user(user: User) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    #[cfg(target_os = "linux")]
    nix::unistd::setgroups(&[gid]).context("dropping the supplementary groups")?;
    setgid(gid).context("changing the group")?;
    setuid(uid).context("changing the user")
}
