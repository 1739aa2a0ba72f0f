//! The measured system: `passbook dev up --release` with new data.

use std::{
    env,
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use devstack::StackFile;
use load::{Plan, Report, Target};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::de::DeserializeOwned;
use tokio::process::{Child, Command};

use crate::{bench::Bench, machine::Machine};

/// Time limit for the start of a stack.
const START_LIMIT: Duration = Duration::from_secs(120);

/// A running stack. Its processes end with this process.
#[derive(Debug)]
pub(crate) struct Stack {
    pub(crate) file: StackFile,
    pub(crate) target: Target,
    pub(crate) machine: Machine,
    dir: PathBuf,
    log: PathBuf,
    child: Child,
}

/// The differences from `passbook dev up --release`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Settings<'a> {
    /// Additional arguments.
    pub(crate) arguments: &'a [&'a str],
    /// Environment variables for the services.
    pub(crate) environment: &'a [(&'a str, &'a str)],
}

fn passbook() -> Result<PathBuf> {
    let path = env::current_exe()?.with_file_name("passbook");
    ensure!(path.is_file(), "{} is missing: run `make bench` to build it", path.display());
    Ok(path)
}

async fn run(dir: &Path, arguments: &[&str]) -> Result<(bool, String)> {
    let mut command = Command::new(passbook()?);
    let output = command.args(arguments).arg("--dir").arg(dir).output().await?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.success(), text(&output.stdout) + &text(&output.stderr)))
}

impl Stack {
    /// Deletes the data of an earlier stack, and starts a new one.
    pub(crate) async fn start(bench: &Bench, settings: Settings<'_>) -> Result<Self> {
        let (dir, log) = (bench.dir.join("stack"), bench.dir.join("stack.log"));
        if dir.exists() {
            run(&dir, &["dev", "down", "--remove-data"]).await?;
        }
        Self::launch(dir, log, settings).await
    }

    /// Stops the stack, and starts it with the same data and other settings.
    pub(crate) async fn restart(mut self, settings: Settings<'_>) -> Result<Self> {
        self.stop().await?;
        Self::launch(self.dir, self.log, settings).await
    }

    async fn launch(dir: PathBuf, log: PathBuf, settings: Settings<'_>) -> Result<Self> {
        let mut command = Command::new(passbook()?);
        let parent = std::process::id().to_string();
        command.args(["bound-exec", "--signal", "SIGTERM", "--parent", &parent, "--"]);
        command.arg(passbook()?).args(["dev", "up", "--release", "--port", "0"]);
        command.arg("--dir").arg(&dir).args(settings.arguments);
        command.envs(settings.environment.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
        let mut child = command.spawn()?;
        let begun = Instant::now();
        let file = loop {
            let is_new = |file: &StackFile| Some(file.supervisor) == child.id();
            if let Some(file) = StackFile::find(&dir)?.filter(is_new) {
                break file;
            }
            if child.try_wait()?.is_some() || begun.elapsed() > START_LIMIT {
                bail!(
                    "the stack did not start within {START_LIMIT:?}, or ended: see {}",
                    log.display()
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let (target, machine) = (Target::of(&file)?, Machine::inspect(&file).await?);
        Ok(Self { file, target, machine, dir, log, child })
    }

    /// Runs a load.
    ///
    /// # Errors
    /// A request was not accepted, or a record did not settle.
    pub(crate) async fn load(&self, accounts: &[String], plan: Plan) -> Result<Report> {
        let report = load::run(&self.target, accounts, plan, |_| {}).await?;
        let (unexpected, pending) = (report.unexpected, report.pending);
        ensure!(
            report.is_clean(),
            "{plan:?}: {unexpected} requests not accepted, {pending} records not settled: {:?}",
            report.samples
        );
        Ok(report)
    }

    /// Sends a signal to the first `count` processes with this prefix in their
    /// names. The empty prefix stands for all processes.
    pub(crate) fn signal(&self, prefix: &str, count: usize, signal: Signal) -> Result<()> {
        let processes = self.file.processes.iter();
        let selected = processes.filter(|process| process.name.starts_with(prefix));
        for process in selected.take(count) {
            kill(Pid::from_raw(process.pid.try_into()?), signal)?;
        }
        Ok(())
    }

    /// Runs a command of `passbook` for this stack, and parses its JSON.
    ///
    /// # Errors
    /// The command failed, or its output has another form.
    pub(crate) async fn passbook<T: DeserializeOwned>(&self, arguments: &[&str]) -> Result<T> {
        let mut command = Command::new(passbook()?);
        let output = command.args(arguments).arg("--dir").arg(&self.dir).output().await?;
        let failed = || {
            let errors = String::from_utf8_lossy(&output.stderr);
            format!("passbook {} failed: {errors}", arguments.join(" "))
        };
        ensure!(output.status.success(), failed());
        serde_json::from_slice(&output.stdout).with_context(failed)
    }

    async fn stop(&mut self) -> Result<()> {
        if let Some(pid) = self.child.id() {
            kill(Pid::from_raw(pid.try_into()?), Signal::SIGTERM)?;
        }
        self.child.wait().await?;
        Ok(())
    }

    /// Runs `passbook verify`, and stops the stack.
    ///
    /// # Errors
    /// `passbook verify` has findings.
    pub(crate) async fn finish(mut self) -> Result<()> {
        let (clean, output) = run(&self.dir, &["verify"]).await?;
        ensure!(clean, "passbook verify failed:\n{output}");
        self.stop().await?;
        run(&self.dir, &["dev", "down", "--remove-data"]).await?;
        Ok(())
    }
}
