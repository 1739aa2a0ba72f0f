//! Processes that are kept running: started again when they die, unless they
//! are held, and stopped in order.

use std::{fs, path::PathBuf, process::ExitStatus, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    process::Child,
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::launcher::{Launcher, Program, length, tail};

/// How long a process that died stays away, as a pod would.
const RESTART_DELAY: Duration = Duration::from_secs(1);
/// How long a process may take to end once it was told to.
const GRACE: Duration = Duration::from_secs(30);
/// How long a process may take to become ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(25);
/// After so many deaths, a process won't become ready either.
const DEATHS: u32 = 3;

/// What is known of the process.
#[derive(Debug, Clone, Copy, Default)]
struct State {
    pid: Option<u32>,
    /// Whether it has not ended.
    runs: bool,
    deaths: u32,
    /// Whether it is kept away.
    held: bool,
}

/// A process that is started again whenever it dies.
#[derive(Debug)]
pub(crate) struct Supervised {
    pub(crate) name: String,
    log: PathBuf,
    /// Where the log of this run starts.
    log_from: u64,
    state: watch::Receiver<State>,
    hold: watch::Sender<bool>,
    stop: CancellationToken,
    kill: CancellationToken,
    task: JoinHandle<()>,
}

/// By which faults happen to a process.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) name: String,
    state: watch::Receiver<State>,
    hold: watch::Sender<bool>,
}

impl Handle {
    /// Sends a signal to the process and the children it has.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let State { pid, runs, .. } = *self.state.borrow();
        let pid = pid.filter(|_| runs).context("it does not run")?;
        let mut all = vec![pid];
        // A frozen server whose children go on is not frozen. The others end with their parent.
        if matches!(signal, Signal::SIGSTOP | Signal::SIGCONT) {
            all.extend(children(pid));
        }
        for pid in all {
            kill(Pid::from_raw(i32::try_from(pid)?), signal)
                .with_context(|| format!("sending {signal} to {pid}"))?;
        }
        Ok(())
    }

    /// Kills the process and keeps it away.
    pub(crate) async fn hold(&self) -> Result<()> {
        self.hold.send_replace(true);
        let mut state = self.state.clone();
        state.wait_for(|it| it.held).await.context("the stack is stopping")?;
        Ok(())
    }

    /// Has the process started again.
    pub(crate) fn release(&self) {
        self.hold.send_replace(false);
    }

    /// Whether it is kept away.
    pub(crate) fn is_held(&self) -> bool {
        *self.hold.borrow()
    }

    /// For a person.
    pub(crate) fn describe(&self) -> &'static str {
        let State { held, runs, pid, .. } = *self.state.borrow();
        match (held, runs) {
            (true, _) => "held",
            (false, true) if pid.is_some_and(is_frozen) => "frozen",
            (false, true) => "runs",
            (false, false) => "starts",
        }
    }
}

/// Whether a process was stopped by SIGSTOP; where there is no `/proc`, nothing
/// is known of it.
fn is_frozen(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state comes behind the name, which may hold anything.
    stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
}

/// A process's children, and none where the system does not tell.
fn children(pid: u32) -> Vec<u32> {
    let told = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    told.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

impl Supervised {
    /// Starts a program and keeps it running until it is stopped.
    pub(crate) fn start(launcher: &Arc<Launcher>, program: Program) -> Self {
        let log = launcher.log(&program);
        let (state, watched) = watch::channel(State::default());
        let (hold, held) = watch::channel(false);
        let (stop, kill) = (CancellationToken::new(), CancellationToken::new());
        let kept = Kept { program: program.clone(), state, held };
        Self {
            name: program.name.clone(),
            log_from: length(&log),
            log,
            state: watched,
            hold,
            stop: stop.clone(),
            kill: kill.clone(),
            task: tokio::spawn(kept.keep_running(Arc::clone(launcher), stop, kill)),
        }
    }

    /// By which faults happen to it.
    pub(crate) fn handle(&self) -> Handle {
        let (name, hold) = (self.name.clone(), self.hold.clone());
        Handle { name, state: self.state.clone(), hold }
    }

    /// The id of the process, or of the last one when it has died or is held.
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

/// A program that is kept running.
struct Kept {
    program: Program,
    state: watch::Sender<State>,
    held: watch::Receiver<bool>,
}

impl Kept {
    async fn keep_running(
        mut self,
        launcher: Arc<Launcher>,
        stop: CancellationToken,
        kill: CancellationToken,
    ) {
        while !stop.is_cancelled() {
            if *self.held.borrow() {
                self.state.send_modify(|state| state.held = true);
                launcher.changed.notify_one();
                tokio::select! {
                    () = turned(&mut self.held, false) => {}
                    () = stop.cancelled() => return,
                }
                self.state.send_modify(|state| state.held = false);
            }
            match launcher.start(&self.program) {
                Ok(mut child) => {
                    self.state.send_modify(|state| (state.runs, state.pid) = (true, child.id()));
                    launcher.changed.notify_one();
                    tokio::select! {
                        ended = child.wait() => {
                            let how = describe(ended);
                            warn!("{} died ({how}): starting it again", self.program.name);
                        }
                        () = turned(&mut self.held, true) => {
                            if let Err(error) = child.kill().await {
                                error!("{} can't be killed: {error}", self.program.name);
                            }
                        }
                        () = stop.cancelled() => return end(&self.program, child, &kill).await,
                    }
                    self.state.send_modify(|state| state.runs = false);
                }
                Err(error) => error!("{} can't be started: {error:#}", self.program.name),
            }
            if *self.held.borrow() {
                continue;
            }
            self.state.send_modify(|state| state.deaths = state.deaths.saturating_add(1));
            tokio::select! {
                () = sleep(RESTART_DELAY) => {}
                () = stop.cancelled() => return,
            }
        }
    }
}

/// Waits until the switch stands so. Nobody turns it once its owner is gone.
async fn turned(switch: &mut watch::Receiver<bool>, on: bool) {
    if switch.wait_for(|it| *it == on).await.is_err() {
        std::future::pending().await
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
