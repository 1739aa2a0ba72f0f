//! The stack's child processes: how they are started, kept running, and
//! stopped.

use std::{
    env,
    ffi::OsString,
    fs::{self, File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    process::{Child, Command},
    sync::{Notify, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::bound::User;

/// How long a process that died stays away, as a pod would.
const RESTART_DELAY: Duration = Duration::from_secs(1);
/// How long a process may take to end once it was told to.
const GRACE: Duration = Duration::from_secs(30);
/// How long a process may take to become ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(25);
/// After so many deaths, a process won't become ready either.
const DEATHS: u32 = 3;
/// The caller's settings that children may see; their own configuration is
/// the stack's alone.
const PASSED_ON: [&str; 2] = ["PASSBOOK_LOG", "PASSBOOK_LOG_FORMAT"];

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
    /// Told whenever a process has been started.
    pub(crate) started: Notify,
}

impl Launcher {
    pub(crate) fn new(passbook: PathBuf, logs: PathBuf, lock: File) -> Self {
        Self { passbook, logs, lock, started: Notify::new() }
    }

    fn log(&self, program: &Program) -> PathBuf {
        self.logs.join(format!("{}.log", program.name))
    }

    fn start(&self, program: &Program) -> Result<Child> {
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
            let foreign = text.starts_with("PASSBOOK_") || text.starts_with("PG");
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

    /// Starts a program and keeps it running until it is stopped.
    pub(crate) fn supervise(self: &Arc<Self>, program: Program) -> Supervised {
        let log = self.log(&program);
        let (state, watched) = watch::channel(State::default());
        let (stop, kill) = (CancellationToken::new(), CancellationToken::new());
        Supervised {
            name: program.name.clone(),
            log_from: length(&log),
            log,
            state: watched,
            stop: stop.clone(),
            kill: kill.clone(),
            task: tokio::spawn(keep_running(Arc::clone(self), program, state, stop, kill)),
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    pid: Option<u32>,
    deaths: u32,
}

/// A process that is started again whenever it dies.
#[derive(Debug)]
pub(crate) struct Supervised {
    pub(crate) name: String,
    log: PathBuf,
    /// Where the log of this run starts.
    log_from: u64,
    state: watch::Receiver<State>,
    stop: CancellationToken,
    kill: CancellationToken,
    task: JoinHandle<()>,
}

impl Supervised {
    /// The id of the process, or of the last one when it has just died.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.state.borrow().pid
    }

    /// Waits until `probe` succeeds.
    ///
    /// # Errors
    /// When it does not within a minute, or the process keeps dying; with the
    /// probe's last error and the end of the log.
    pub(crate) async fn ready(&self, probe: impl AsyncFn() -> Result<()>) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let Err(error) = probe().await else { return Ok(()) };
            let deaths = self.state.borrow().deaths;
            if deaths >= DEATHS {
                bail!("{} died {deaths} times{}", self.name, tail(&self.log, self.log_from));
            }
            if Instant::now() > deadline {
                let tail = tail(&self.log, self.log_from);
                return Err(error.context(format!(
                    "{} is not ready after {} s{tail}\n",
                    self.name,
                    READY_WITHIN.as_secs()
                )));
            }
            sleep(POLL).await;
        }
    }

    /// Tells the process to end, and waits until it has; kills it when it
    /// takes too long or `at_once` is cancelled.
    pub(crate) async fn stop(self, at_once: &CancellationToken) {
        self.stop.cancel();
        let mut task = self.task;
        let ended = tokio::select! {
            ended = &mut task => ended,
            () = at_once.cancelled() => {
                self.kill.cancel();
                task.await
            }
        };
        if let Err(error) = ended {
            error!("the task that kept {} running failed: {error}", self.name);
        }
    }
}

async fn keep_running(
    launcher: Arc<Launcher>,
    program: Program,
    state: watch::Sender<State>,
    stop: CancellationToken,
    kill: CancellationToken,
) {
    loop {
        match launcher.start(&program) {
            Ok(mut child) => {
                state.send_modify(|state| state.pid = child.id());
                launcher.started.notify_one();
                tokio::select! {
                    ended = child.wait() => warn!("{} died ({}): starting it again", program.name, describe(ended)),
                    () = stop.cancelled() => return end(&program, child, &kill).await,
                }
            }
            Err(error) => error!("{} can't be started: {error:#}", program.name),
        }
        state.send_modify(|state| state.deaths = state.deaths.saturating_add(1));
        tokio::select! {
            () = sleep(RESTART_DELAY) => {}
            () = stop.cancelled() => return,
        }
    }
}

fn describe(ended: std::io::Result<ExitStatus>) -> String {
    ended.map_or_else(|error| error.to_string(), |status| status.to_string())
}

async fn end(program: &Program, mut child: Child, kill_now: &CancellationToken) {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
    // `None` when it has ended already.
    if let Some(pid) = pid
        && let Err(error) = kill(pid, program.signal)
    {
        warn!("{} can't be sent {}: {error}", program.name, program.signal);
    }
    let gone = tokio::select! {
        ended = timeout(GRACE, child.wait()) => ended.is_ok(),
        () = kill_now.cancelled() => false,
    };
    if !gone {
        warn!("{} is killed: it has not ended by itself", program.name);
        if let Err(error) = child.kill().await {
            error!("{} can't be killed: {error}", program.name);
        }
    }
}

fn length(path: &Path) -> u64 {
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
