//! Starts the stack's child processes: bound to this one, in a clean
//! environment, with a log each.

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

use crate::bound::User;

/// The caller's settings that children may see: what is logged, how much is done
/// at a time, and where spans go. Where things are, and who may do what, is the stack's
/// alone.
const PASSED_ON: [&str; 8] = [
    "PASSBOOK_LOG",
    "PASSBOOK_LOG_FORMAT",
    "PASSBOOK_WORKER_BATCH",
    "PASSBOOK_WORKERS",
    "PASSBOOK_THREADS",
    "PASSBOOK_DATABASE_CONNECTIONS",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_TRACES_SAMPLER_ARG",
];

/// A program and everything it is started with.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// The process's name, also of its log.
    pub(crate) name: String,
    /// An absolute path: children run in `/`.
    pub(crate) path: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    /// Added to the inherited environment.
    pub(crate) environment: Vec<(&'static str, String)>,
    /// Whom to run it as, if not the present user.
    pub(crate) user: Option<User>,
    /// What ends it: sent to stop it, and when the supervisor dies.
    pub(crate) signal: Signal,
}

/// Starts processes that are bound to this one.
#[derive(Debug)]
pub(crate) struct Launcher {
    /// The `passbook` program, which has the subcommand `bound-exec`.
    passbook: PathBuf,
    logs: PathBuf,
    lock: File,
    /// Told whenever a process has been started, or is kept away.
    pub(crate) changed: Notify,
}

impl Launcher {
    pub(crate) fn new(passbook: PathBuf, logs: PathBuf, lock: File) -> Self {
        Self { passbook, logs, lock, changed: Notify::new() }
    }

    /// Where a program's output goes.
    pub(crate) fn log(&self, program: &Program) -> PathBuf {
        self.logs.join(format!("{}.log", program.name))
    }

    /// Starts a program once.
    ///
    /// # Errors
    /// When its log can't be opened, or no process can be made.
    pub(crate) fn start(&self, program: &Program) -> Result<Child> {
        let path = self.log(program);
        let log = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        let log = log.with_context(|| path.display().to_string())?;
        let mut command = Command::new(&self.passbook);
        command
            .arg("bound-exec")
            .args(["--parent", &std::process::id().to_string()])
            .args(["--signal", program.signal.as_str()]);
        if let Some(user) = program.user {
            command.args(["--uid", &user.uid.to_string(), "--gid", &user.gid.to_string()]);
        }
        command.arg("--").arg(&program.path).args(&program.arguments);
        for (name, _) in env::vars_os() {
            let text = name.to_string_lossy();
            let foreign = ["PASSBOOK_", "PG", "OTEL_"].iter().any(|it| text.starts_with(it));
            if foreign && !PASSED_ON.contains(&&*text) {
                command.env_remove(name);
            }
        }
        command
            .envs(program.environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            // A terminal's Ctrl-C is for the supervisor alone.
            .process_group(0)
            // Not to be read from: as long as a child has it open, the lock
            // is held, and no second broker opens the files of the first.
            .stdin(Stdio::from(self.lock.try_clone()?))
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true);
        command.spawn().with_context(|| format!("starting {}", self.passbook.display()))
    }

    /// Runs a program to its end.
    ///
    /// # Errors
    /// When it can't be started or fails; with the end of its log.
    pub(crate) async fn run(&self, program: &Program) -> Result<()> {
        let path = self.log(program);
        let from = length(&path);
        let status = self.start(program)?.wait().await?;
        if !status.success() {
            bail!("{} failed ({status}){}", program.name, tail(&path, from));
        }
        Ok(())
    }
}

/// How long a log is already.
pub(crate) fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// The last lines of a log, as the end of an error message.
pub(crate) fn tail(path: &Path, from: u64) -> String {
    const LINES: usize = 20;
    let bytes = fs::read(path).unwrap_or_default();
    let new = usize::try_from(from).ok().and_then(|from| bytes.get(from..)).unwrap_or_default();
    let text = String::from_utf8_lossy(new);
    let lines: Vec<_> = text.lines().collect();
    let last = lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default();
    if last.is_empty() {
        return format!("; its log {} is empty", path.display());
    }
    format!("; the end of its log {}:\n  {}", path.display(), last.join("\n  "))
}
