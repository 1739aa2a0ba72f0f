//! The system that is measured: `passbook dev up --release`, with new data.

use std::{
    env,
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use async_nats::{ConnectOptions, ServerAddr, jetstream};
use devstack::StackFile;
use load::{Plan, Report, Target};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::process::{Child, Command};

use crate::{Bench, machine::Machine};

/// Longer than any machine needs.
const START: Duration = Duration::from_secs(120);

/// A running stack. Its processes end with this one's.
#[derive(Debug)]
pub(crate) struct Stack {
    pub(crate) file: StackFile,
    pub(crate) target: Target,
    pub(crate) machine: Machine,
    dir: PathBuf,
    child: Child,
}

/// What differs from `passbook dev up --release`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Settings<'a> {
    /// More arguments.
    pub(crate) arguments: &'a [&'a str],
    /// Settings of the services.
    pub(crate) environment: &'a [(&'a str, &'a str)],
}

fn passbook() -> Result<PathBuf> {
    let path = env::current_exe()?.with_file_name("passbook");
    ensure!(path.is_file(), "{} is not built: `make bench` does it", path.display());
    Ok(path)
}

async fn run(dir: &Path, arguments: &[&str]) -> Result<(bool, String)> {
    let mut command = Command::new(passbook()?);
    let output = command.args(arguments).arg("--dir").arg(dir).output().await?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.success(), text(&output.stdout) + &text(&output.stderr)))
}

impl Stack {
    /// Starts one on new data.
    pub(crate) async fn start(bench: &Bench, settings: Settings<'_>) -> Result<Self> {
        let (dir, log) = (bench.dir.join("stack"), bench.dir.join("stack.log"));
        if dir.exists() {
            run(&dir, &["dev", "down", "--remove-data"]).await?;
        }
        let mut command = Command::new(passbook()?);
        let parent = std::process::id().to_string();
        command.args(["bound-exec", "--signal", "SIGTERM", "--parent", &parent, "--"]);
        command.arg(passbook()?).args(["dev", "up", "--release", "--port", "0", "--dir"]).arg(&dir);
        command.args(settings.arguments).envs(settings.environment.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
        let mut child = command.spawn()?;
        let begun = Instant::now();
        let file = loop {
            let mine = |file: &StackFile| Some(file.supervisor) == child.id();
            if let Some(file) = StackFile::find(&dir)?.filter(mine) {
                break file;
            }
            if child.try_wait()?.is_some() || begun.elapsed() > START {
                bail!("the stack does not start: see {}", log.display());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let (target, machine) = (Target::of(&file)?, Machine::look(&file).await?);
        Ok(Self { file, target, machine, dir, child })
    }

    /// Makes load. What was not accepted, or did not settle, is an error.
    pub(crate) async fn load(&self, accounts: &[String], plan: Plan) -> Result<Report> {
        let report = load::run(&self.target, accounts, plan, |_| {}).await?;
        let (unexpected, pending) = (report.unexpected, report.pending);
        ensure!(
            report.is_clean(),
            "{plan:?}: {unexpected} were not accepted, {pending} did not settle: {:?}",
            report.samples
        );
        Ok(report)
    }

    /// Sends a signal to those of these processes that come first.
    pub(crate) fn signal(&self, service: &str, most: usize, signal: Signal) -> Result<()> {
        let of = self.file.processes.iter().filter(|it| it.name.starts_with(service));
        for process in of.take(most) {
            kill(Pid::from_raw(process.pid.try_into()?), signal)?;
        }
        Ok(())
    }

    /// Checks the books, and stops it.
    ///
    /// # Errors
    /// When they do not balance.
    pub(crate) async fn finish(mut self) -> Result<()> {
        let (sound, said) = run(&self.dir, &["verify"]).await?;
        ensure!(sound, "passbook verify:\n{said}");
        if let Some(pid) = self.child.id() {
            kill(Pid::from_raw(pid.try_into()?), Signal::SIGTERM)?;
        }
        self.child.wait().await?;
        run(&self.dir, &["dev", "down", "--remove-data"]).await?;
        Ok(())
    }
}

/// Connects to the broker of a stack.
pub(crate) async fn broker(file: &StackFile) -> Result<jetstream::Context> {
    connect(&file.nats).await
}

async fn connect(url: &str) -> Result<jetstream::Context> {
    let servers: Vec<ServerAddr> = url.split(',').map(str::parse).collect::<Result<_, _>>()?;
    // The client does not take the user out of the address by itself.
    let user = servers.iter().find_map(|it| Some((it.username()?, it.password()?)));
    let (user, password) = user.context("an address without a user")?;
    let options = ConnectOptions::with_user_and_password(user.to_owned(), password.to_owned());
    Ok(jetstream::new(options.connect(servers).await?))
}
