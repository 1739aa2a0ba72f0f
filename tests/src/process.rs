//! Programs of this build and operating system processes: start, run, signal,
//! pause.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, Uid},
};

/// Limit for the start of a stack or the run of a command. A slow machine needs less.
pub(crate) const START: Duration = Duration::from_secs(120);

/// The `passbook` program of the same build. It is in the directory of this program or, for a test
/// binary, in the parent directory.
#[must_use]
pub fn passbook() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let dir = test.parent().unwrap();
    let candidates = [dir, dir.parent().unwrap()].map(|dir| dir.join("passbook"));
    let found = candidates.iter().find(|file| file.is_file());
    found
        .unwrap_or_else(|| panic!("{} is missing: `make test` builds it", candidates[1].display()))
        .clone()
}

/// Whether a process with this id exists.
#[must_use]
pub fn exists(pid: i32) -> bool {
    kill(Pid::from_raw(pid), None).is_ok()
}

/// Sends a signal.
pub fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
}

/// Sets the limit of file descriptors of a running process. `limit` is that of prlimit(1):
/// `3:` sets the soft limit alone.
pub fn limit_descriptors(pid: u32, limit: &str) {
    let arguments = ["--pid", &pid.to_string(), &format!("--nofile={limit}")];
    let status = Command::new("prlimit").args(arguments).status().unwrap();
    assert!(status.success(), "prlimit {arguments:?}: {status}");
}

/// The processor time that a process has used.
#[must_use]
pub fn processor_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    // utime and stime, in hundredths of a second.
    let ticks: u64 = fields[11..=12].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

/// Processes stopped by SIGSTOP. Dropping this resumes them, also when a test fails, because a
/// stopped process can't exit in time.
#[must_use]
#[derive(Debug)]
pub struct Paused(Vec<u32>);

impl Paused {
    pub fn new(pids: impl IntoIterator<Item = u32>) -> Self {
        let pids: Vec<_> = pids.into_iter().collect();
        for pid in &pids {
            signal(*pid, Signal::SIGSTOP);
        }
        Self(pids)
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        for pid in &self.0 {
            // A paused process may have been killed.
            let _ = kill(Pid::from_raw(i32::try_from(*pid).unwrap()), Signal::SIGCONT);
        }
    }
}

/// Starts `passbook`. It ends with the test process, also if the test process is killed.
pub fn start(arguments: &[&str], user: Option<Uid>, stdin: Stdio, log: &Path) -> Child {
    start_by(&[passbook().to_str().unwrap()], arguments, user, stdin, log)
}

/// As [`start`], with another program. `command` is the program and its first arguments.
pub(crate) fn start_by(
    command: &[&str],
    arguments: &[&str],
    user: Option<Uid>,
    stdin: Stdio,
    log: &Path,
) -> Child {
    let mut bound = Command::new(passbook());
    bound.args(["bound-exec", "--signal", "SIGTERM", "--parent"]);
    bound.arg(std::process::id().to_string());
    if let Some(user) = user {
        bound.args(["--uid", &user.to_string(), "--gid", &user.to_string()]);
    }
    bound.arg("--").args(command).args(arguments);
    // `make test` may itself run under settings not meant for this stack.
    for (name, _) in std::env::vars().filter(|(name, _)| is_setting(name)) {
        bound.env_remove(name);
    }
    bound.current_dir(workspace());
    bound.stdin(stdin).stdout(File::create(log.with_extension("out")).unwrap());
    bound.stderr(File::create(log).unwrap());
    spawn(bound)
}

fn is_setting(name: &str) -> bool {
    let kept = ["PASSBOOK_POSTGRES_BIN", "PASSBOOK_NATS_SERVER", "PASSBOOK_TOOLS_DIR"];
    (name.starts_with("PASSBOOK_") || name.starts_with("OTEL_")) && !kept.contains(&name)
}

/// The working directory of `make run`. Tests themselves run in the directory of this package.
fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Spawns the command on a thread that never ends. The kernel sends a child its death signal when
/// the spawning thread ends, and the thread of a test ends with the test.
fn spawn(command: Command) -> Child {
    type Request = (Command, mpsc::Sender<Child>);
    static SPAWNER: std::sync::OnceLock<mpsc::Sender<Request>> = std::sync::OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (requests, inbox) = mpsc::channel::<Request>();
        thread::spawn(move || {
            for (mut command, reply) in inbox {
                let _ = reply.send(command.spawn().unwrap());
            }
        });
        requests
    });
    let (reply, child) = mpsc::channel();
    spawner.send((command, reply)).unwrap();
    child.recv().unwrap()
}

/// Runs `passbook` until it exits.
pub async fn run(arguments: &[&str]) -> Output {
    run_with(arguments, &[]).await
}

/// As [`run`], with these environment variables.
pub async fn run_with(arguments: &[&str], settings: &[(&str, &str)]) -> Output {
    let mut command = tokio::process::Command::new(passbook());
    command.args(arguments).envs(settings.iter().copied());
    let output = command.current_dir(workspace()).output();
    tokio::time::timeout(START, output).await.expect("passbook exits in time").unwrap()
}

/// The text of a log file, for the message of a failing test.
#[must_use]
pub fn read_log(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| format!("{}: {error}", path.display()))
}
