//! Processes that are kept running: started again when they die, and stopped
//! in order.

use std::{path::PathBuf, process::ExitStatus, sync::Arc, time::Duration};

use anyhow::{Result, bail};
use nix::{sys::signal::kill, unistd::Pid};
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
    /// Starts a program and keeps it running until it is stopped.
    pub(crate) fn start(launcher: &Arc<Launcher>, program: Program) -> Self {
        let log = launcher.log(&program);
        let (state, watched) = watch::channel(State::default());
        let (stop, kill) = (CancellationToken::new(), CancellationToken::new());
        Self {
            name: program.name.clone(),
            log_from: length(&log),
            log,
            state: watched,
            stop: stop.clone(),
            kill: kill.clone(),
            task: tokio::spawn(keep_running(Arc::clone(launcher), program, state, stop, kill)),
        }
    }

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
                    ended = child.wait() => {
                        warn!("{} died ({}): starting it again", program.name, describe(ended));
                    }
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
