//! Spawns the stack's child processes. Each has a parent-death signal, a clean
//! environment and its own log file.

use std::{
    env,
    ffi::OsString,
    fs::{self, File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use tokio::{
    process::{Child, Command},
    sync::Notify,
};

use crate::{inheritance, pdeathsig::User};

/// A process to spawn.
#[derive(Debug, Clone)]
pub(crate) struct ProcessSpec {
    /// The name of the process and of its log file.
    pub(crate) name: String,
    /// An absolute path, because children run in `/`.
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    /// Added to the inherited environment.
    pub(crate) environment: Vec<(&'static str, String)>,
    /// Prefixes of the variables that only this process inherits. They
    /// override its environment, unless `inheritance` withholds them.
    pub(crate) inherited_prefixes: &'static [&'static str],
    /// `None` runs it as the present user.
    pub(crate) user: Option<User>,
    /// Sent to stop the process, and when the supervisor dies.
    pub(crate) stop_signal: Signal,
}

/// Spawns processes as children of this one.
#[derive(Debug)]
pub(crate) struct Spawner {
    /// The `passbook` program: its subcommand `bound-exec` sets the
    /// parent-death signal.
    passbook: PathBuf,
    logs: PathBuf,
    lock: File,
    /// Notified when a supervised process was started or held.
    pub(crate) changed: Notify,
}

impl Spawner {
    pub(crate) fn new(passbook: PathBuf, logs: PathBuf, lock: File) -> Self {
        Self { passbook, logs, lock, changed: Notify::new() }
    }

    /// The log file of the process.
    pub(crate) fn log(&self, process: &ProcessSpec) -> PathBuf {
        self.logs.join(format!("{}.log", process.name))
    }

    /// Spawns the process once.
    ///
    /// # Errors
    /// If its log can't be opened, or the process can't be spawned.
    pub(crate) fn spawn(&self, process: &ProcessSpec) -> Result<Child> {
        let path = self.log(process);
        let log = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        let log = log.with_context(|| path.display().to_string())?;
        let mut command = Command::new(&self.passbook);
        command
            .arg("bound-exec")
            .args(["--parent", &std::process::id().to_string()])
            .args(["--signal", process.stop_signal.as_str()]);
        if let Some(user) = process.user {
            command.args(["--uid", &user.uid.to_string(), "--gid", &user.gid.to_string()]);
        }
        command.arg("--").arg(&process.program).args(&process.arguments);
        let prefixes = process.inherited_prefixes;
        for (name, value) in env::vars_os() {
            if !inheritance::is_inherited(&name.to_string_lossy(), &value, prefixes) {
                command.env_remove(name);
            }
        }
        let environment = process.environment.iter();
        let overridden = |name: &str| {
            env::var_os(name).is_some_and(|value| inheritance::overrides(name, &value, prefixes))
        };
        command
            .envs(
                environment
                    .filter(|(name, _)| !overridden(name))
                    .map(|(name, value)| (name, value)),
            )
            .current_dir("/")
            // Ctrl-C in a terminal reaches the supervisor only.
            .process_group(0)
            // The child never reads it. As long as a child has it open, the lock is held, and no
            // second broker opens the files of the first.
            .stdin(Stdio::from(self.lock.try_clone()?))
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true);
        command.spawn().with_context(|| format!("starting {}", self.passbook.display()))
    }

    /// Spawns the process and waits until it has ended.
    ///
    /// # Errors
    /// If it can't be spawned, or fails; with the last lines of its log.
    pub(crate) async fn run(&self, process: &ProcessSpec) -> Result<()> {
        let path = self.log(process);
        let offset = log_length(&path);
        let status = self.spawn(process)?.wait().await?;
        if !status.success() {
            bail!("{} failed ({status}){}", process.name, log_tail(&path, offset));
        }
        Ok(())
    }
}

/// The present length of a log file in bytes; 0 if it does not exist.
pub(crate) fn log_length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// The last lines of a log file after `offset`, to be appended to an error
/// message.
pub(crate) fn log_tail(path: &Path, offset: u64) -> String {
    const LINES: usize = 20;
    let bytes = fs::read(path).unwrap_or_default();
    let new = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..));
    let text = String::from_utf8_lossy(new.unwrap_or_default());
    let lines: Vec<_> = text.lines().collect();
    let last = lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default();
    if last.is_empty() {
        return format!("; its log {} is empty", path.display());
    }
    format!("; the end of its log {}:\n  {}", path.display(), last.join("\n  "))
}
