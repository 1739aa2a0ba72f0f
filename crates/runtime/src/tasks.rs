//! The long-lived tasks of a process. Every task has an owner: a panic or an early
//! end is an error, and the end of each task is awaited.

use std::{future::Future, process::ExitCode, time::Duration};

use anyhow::{Context, anyhow};
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// Sleeps, or returns early once `stop` is cancelled. `true` after the full
/// sleep.
pub async fn sleep_unless_stopped(duration: Duration, stop: &CancellationToken) -> bool {
    stop.run_until_cancelled(tokio::time::sleep(duration)).await.is_some()
}

/// The tasks of a process and the token that asks them to stop.
#[derive(Debug)]
pub struct Tasks {
    stop: CancellationToken,
    running: JoinSet<(&'static str, anyhow::Result<()>)>,
}

impl Tasks {
    /// No tasks yet. Cancelling `stop` asks all of them to end.
    #[must_use]
    pub fn new(stop: CancellationToken) -> Self {
        Self { stop, running: JoinSet::new() }
    }

    /// Starts a task that runs until the stop and can't fail.
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.running.spawn(async move {
            task.await;
            (name, Ok(()))
        });
    }

    /// Starts a task that runs until the stop, or fails.
    pub fn spawn_fallible(
        &mut self,
        name: &'static str,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        self.running.spawn(async move { (name, task.await) });
    }

    /// Waits until `stopped` resolves.
    ///
    /// # Errors
    /// If a task ended before: its name, and its error if it had one.
    pub async fn watch(&mut self, stopped: impl Future<Output = ()>) -> anyhow::Result<()> {
        tokio::select! {
            // Polled first, because the event behind `stopped` may also end the tasks.
            biased;
            () = stopped => Ok(()),
            Some(ended) = self.running.join_next() => match ended {
                Ok((name, Ok(()))) => Err(anyhow!("the task {name} ended early")),
                Ok((name, Err(error))) => Err(error.context(format!("the task {name} failed"))),
                Err(error) => Err(anyhow!(error).context("a task panicked")),
            },
        }
    }

    /// Asks all tasks to stop and waits for them, for at most `within`.
    ///
    /// # Errors
    /// The first task that failed or panicked, or the number of tasks still
    /// running.
    pub async fn finish(mut self, within: Duration) -> anyhow::Result<()> {
        self.stop.cancel();
        let mut outcome = Ok(());
        let all = async {
            while let Some(ended) = self.running.join_next().await {
                let result = match ended {
                    Ok((name, result)) => result.with_context(|| format!("the task {name} failed")),
                    Err(error) => Err(anyhow!(error).context("a task panicked")),
                };
                if outcome.is_ok() {
                    outcome = result;
                }
            }
        };
        let in_time = tokio::time::timeout(within, all).await.is_ok();
        if in_time {
            outcome
        } else {
            Err(anyhow!("{} tasks were still running after {within:?}", self.running.len()))
        }
    }
}

/// Events of sockets that a thread takes before it looks at the time. More connections than may wait
/// for a head: what has arrived on one of them is seen before its time is over.
const MAX_EVENTS: usize = 8192;

/// Runs a process to its end on `threads` threads and logs how it ended.
///
/// The default is one thread: waking a task then wakes no other thread. Waking a
/// thread on another processor can take longer than the task.
pub fn run(threads: u16, process: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    let mut builder = match threads {
        0 | 1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    let runtime = builder
        .worker_threads(usize::from(threads.max(1)))
        .max_io_events_per_tick(MAX_EVENTS)
        .enable_all()
        .build();
    let outcome = runtime.context("starting threads").and_then(|runtime| runtime.block_on(process));
    match outcome {
        Ok(()) => {
            tracing::info!("stopped");
            ExitCode::SUCCESS
        }
        Err(error) => {
            if tracing::dispatcher::has_been_set() {
                tracing::error!(error = format!("{error:#}"), "stopped with an error");
            } else {
                eprintln!("{error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

/// A token that SIGTERM or SIGINT cancels. A second signal ends the process at
/// once.
///
/// # Errors
/// If a signal handler can't be installed.
pub fn stop_on_signal() -> anyhow::Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let stop = token.clone();
    tokio::spawn(async move {
        loop {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if stop.is_cancelled() {
                tracing::warn!(signal = name, "second signal: exiting at once");
                std::process::exit(130);
            }
            tracing::info!(signal = name, "stopping");
            stop.cancel();
        }
    });
    Ok(token)
}
