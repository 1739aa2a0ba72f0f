//! Supervises processes: restarts a process when it dies, unless a fault holds
//! it, and stops it on request.

use std::{path::PathBuf, process::ExitStatus, sync::Arc, time::Duration};

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

use crate::{
    procfs,
    spawn::{ProcessSpec, Spawner, log_length, log_tail},
};

/// How long a process stays down after it died, as a pod would.
const RESTART_DELAY: Duration = Duration::from_secs(1);
/// How long a process may run on after its stop signal. Then it is killed.
pub(crate) const GRACE_PERIOD: Duration = Duration::from_secs(30);
const READY_TIMEOUT: Duration = Duration::from_secs(60);
const READY_POLL: Duration = Duration::from_millis(25);
/// After this many deaths, a process is not expected to become ready.
const MAX_DEATHS: u32 = 3;

#[derive(Debug, Clone, Copy, Default)]
struct State {
    /// The id of the process, or of the last one after it ended.
    pid: Option<u32>,
    running: bool,
    deaths: u32,
    held: bool,
}

/// A process that is restarted whenever it dies.
#[derive(Debug)]
pub(crate) struct SupervisedProcess {
    pub(crate) name: String,
    stop_signal: Signal,
    log: PathBuf,
    /// Length of the log when the supervision began.
    log_offset: u64,
    state: watch::Receiver<State>,
    hold: watch::Sender<bool>,
    stop: CancellationToken,
    kill: CancellationToken,
    task: JoinHandle<()>,
}

/// Injects faults into a supervised process.
#[derive(Debug)]
pub(crate) struct ProcessHandle {
    pub(crate) name: String,
    /// The signal for a graceful stop. PostgreSQL's SIGTERM would wait for its clients, and
    /// reject new ones meanwhile.
    pub(crate) stop_signal: Signal,
    state: watch::Receiver<State>,
    hold: watch::Sender<bool>,
}

impl ProcessHandle {
    /// Sends a signal to the process. SIGSTOP and SIGCONT go to its children
    /// too, because a server with running children is not frozen. After other
    /// signals, children end with their parent.
    ///
    /// # Errors
    /// If the process does not run, or the signal can't be sent.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let State { pid, running, .. } = *self.state.borrow();
        let pid = pid.filter(|_| running).context("the process does not run")?;
        let mut pids = vec![pid];
        if matches!(signal, Signal::SIGSTOP | Signal::SIGCONT) {
            pids.extend(procfs::children(pid));
        }
        for pid in pids {
            kill(Pid::from_raw(i32::try_from(pid)?), signal)
                .with_context(|| format!("sending {signal} to process {pid}"))?;
        }
        Ok(())
    }

    /// Kills the process, and does not restart it until it is released.
    ///
    /// # Errors
    /// If the stack is stopping.
    pub(crate) async fn hold(&self) -> Result<()> {
        self.hold.send_replace(true);
        let mut state = self.state.clone();
        state.wait_for(|state| state.held).await.context("the stack is stopping")?;
        Ok(())
    }

    /// Restarts a held process.
    pub(crate) fn release(&self) {
        self.hold.send_replace(false);
    }

    /// Whether the process is held, or about to be.
    pub(crate) fn is_held(&self) -> bool {
        *self.hold.borrow()
    }

    /// The state, as `passbook dev fault ls` shows it.
    pub(crate) fn describe(&self) -> &'static str {
        let State { held, running, pid, .. } = *self.state.borrow();
        match (held, running) {
            (true, _) => "held",
            (false, true) if pid.is_some_and(procfs::is_frozen) => "frozen",
            (false, true) => "runs",
            (false, false) => "starts",
        }
    }
}

impl SupervisedProcess {
    /// Starts a process and supervises it until it is stopped.
    pub(crate) fn start(spawner: &Arc<Spawner>, process: ProcessSpec) -> Self {
        let log = spawner.log(&process);
        let (state_sender, state) = watch::channel(State::default());
        let (hold, hold_receiver) = watch::channel(false);
        let (stop, kill) = (CancellationToken::new(), CancellationToken::new());
        let (name, stop_signal) = (process.name.clone(), process.stop_signal);
        let supervisor = Supervisor { process, state: state_sender, hold: hold_receiver };
        Self {
            name,
            stop_signal,
            log_offset: log_length(&log),
            log,
            state,
            hold,
            stop: stop.clone(),
            kill: kill.clone(),
            task: tokio::spawn(supervisor.run(Arc::clone(spawner), stop, kill)),
        }
    }

    pub(crate) fn handle(&self) -> ProcessHandle {
        let (name, hold) = (self.name.clone(), self.hold.clone());
        ProcessHandle { name, stop_signal: self.stop_signal, state: self.state.clone(), hold }
    }

    /// The id of the process. While it is dead or held, the id of the last one.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.state.borrow().pid
    }

    /// Waits until `probe` succeeds.
    ///
    /// # Errors
    /// If it does not succeed within a minute, or the process keeps dying;
    /// with the probe's last error and the last lines of the log.
    pub(crate) async fn wait_ready(&self, probe: impl AsyncFn() -> Result<()>) -> Result<()> {
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            let Err(error) = probe().await else { return Ok(()) };
            let deaths = self.state.borrow().deaths;
            if deaths >= MAX_DEATHS {
                bail!("{} died {deaths} times{}", self.name, log_tail(&self.log, self.log_offset));
            }
            if Instant::now() > deadline {
                let tail = log_tail(&self.log, self.log_offset);
                return Err(error.context(format!(
                    "{} is not ready after {} s{tail}\n",
                    self.name,
                    READY_TIMEOUT.as_secs()
                )));
            }
            sleep(READY_POLL).await;
        }
    }

    /// Sends the stop signal and waits until the process has ended. Kills it
    /// after the grace period, or when `kill_now` is cancelled.
    pub(crate) async fn stop(self, kill_now: &CancellationToken) {
        self.stop.cancel();
        let mut task = self.task;
        let ended = tokio::select! {
            ended = &mut task => ended,
            () = kill_now.cancelled() => {
                self.kill.cancel();
                task.await
            }
        };
        if let Err(error) = ended {
            error!("the supervision of {} failed: {error}", self.name);
        }
    }
}

/// The task behind a supervised process.
struct Supervisor {
    process: ProcessSpec,
    state: watch::Sender<State>,
    hold: watch::Receiver<bool>,
}

impl Supervisor {
    async fn run(
        mut self,
        spawner: Arc<Spawner>,
        stop: CancellationToken,
        kill_now: CancellationToken,
    ) {
        while !stop.is_cancelled() {
            if *self.hold.borrow() {
                self.state.send_modify(|state| state.held = true);
                spawner.changed.notify_one();
                tokio::select! {
                    () = switched(&mut self.hold, false) => {}
                    () = stop.cancelled() => return,
                }
                self.state.send_modify(|state| state.held = false);
            }
            match spawner.spawn(&self.process) {
                Ok(mut child) => {
                    self.state.send_modify(|state| (state.running, state.pid) = (true, child.id()));
                    spawner.changed.notify_one();
                    tokio::select! {
                        ended = child.wait() => {
                            let how = describe(ended);
                            warn!("{} died ({how}): restarting it", self.process.name);
                        }
                        () = switched(&mut self.hold, true) => {
                            if let Err(error) = child.kill().await {
                                error!("killing {} failed: {error}", self.process.name);
                            }
                        }
                        () = stop.cancelled() => return end(&self.process, child, &kill_now).await,
                    }
                    self.state.send_modify(|state| state.running = false);
                }
                Err(error) => error!("starting {} failed: {error:#}", self.process.name),
            }
            if *self.hold.borrow() {
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

/// Waits until the switch has this value. Waits forever once its owner is gone.
async fn switched(switch: &mut watch::Receiver<bool>, value: bool) {
    if switch.wait_for(|present| *present == value).await.is_err() {
        std::future::pending().await
    }
}

fn describe(ended: std::io::Result<ExitStatus>) -> String {
    ended.map_or_else(|error| error.to_string(), |status| status.to_string())
}

async fn end(process: &ProcessSpec, mut child: Child, kill_now: &CancellationToken) {
    // `None` if the process has ended already.
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
    if let Some(pid) = pid
        && let Err(error) = kill(pid, process.stop_signal)
    {
        warn!("sending {} to {} failed: {error}", process.stop_signal, process.name);
    }
    let ended = tokio::select! {
        ended = timeout(GRACE_PERIOD, child.wait()) => ended.is_ok(),
        () = kill_now.cancelled() => false,
    };
    if !ended {
        warn!("killing {}: it did not end after {}", process.name, process.stop_signal);
        if let Err(error) = child.kill().await {
            error!("killing {} failed: {error}", process.name);
        }
    }
}
