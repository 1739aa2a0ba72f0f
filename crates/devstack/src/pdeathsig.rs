//! Child processes that end when their parent dies, even by SIGKILL.
//!
//! Linux sends a process its parent-death signal when the *thread* of the
//! parent ends, and clears the signal when the process changes its user. So
//! one thread starts all children and lives as long as the process: the main
//! thread, with a current-thread runtime. Each child first runs this program
//! again. It changes the user, sets the signal, and only then executes the
//! actual program.
//!
//! Other systems have no such signal. There, the children of a killed
//! supervisor keep running.

use std::{
    convert::Infallible, ffi::OsString, os::unix::process::CommandExt, path::PathBuf,
    process::Command,
};

use anyhow::{Context, Result, ensure};
use nix::{
    sys::signal::Signal,
    unistd::{Gid, Pid, Uid, getppid, setgid, setuid},
};

/// The user and group for running a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// Numeric user id.
    pub uid: u32,
    /// Numeric id of the only group: supplementary groups are dropped.
    pub gid: u32,
}

/// A program to execute in place of this one, with a parent-death signal.
#[derive(Debug)]
pub struct PdeathsigCommand {
    /// The process id of the expected parent. If it is no longer the parent,
    /// the program is not executed.
    pub parent: u32,
    /// Sent to the program when its parent dies.
    pub signal: Signal,
    /// `None` runs the program as the present user.
    pub user: Option<User>,
    /// Path of the program.
    pub program: PathBuf,
    /// Without the program itself.
    pub arguments: Vec<OsString>,
}

impl PdeathsigCommand {
    /// Replaces this process by the program. Returns only on failure.
    ///
    /// # Errors
    /// If the user can't be changed, the parent is gone, or the program can't
    /// be executed.
    pub fn exec(self) -> Result<Infallible> {
        if let Some(user) = self.user {
            become_user(user)?;
        }
        #[cfg(target_os = "linux")]
        nix::sys::prctl::set_pdeathsig(self.signal).context("setting the parent-death signal")?;
        let parent = i32::try_from(self.parent).map(Pid::from_raw)?;
        // The parent may have died before the signal was set.
        ensure!(getppid() == parent, "the parent process {parent} is gone");
        // The stack's lock is stdin. A program gives its own children another stdin; `initdb` does.
        // They inherit this copy, so that the lock is held until they have ended, too.
        let copy = nix::unistd::dup(std::io::stdin()).context("duplicating stdin")?;
        std::mem::forget(copy);
        let error = Command::new(&self.program).args(&self.arguments).exec();
        Err(error).with_context(|| format!("executing {}", self.program.display()))
    }
}

fn become_user(user: User) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    #[cfg(target_os = "linux")]
    nix::unistd::setgroups(&[gid]).context("dropping the supplementary groups")?;
    setgid(gid).context("changing the group")?;
    setuid(uid).context("changing the user")
}
