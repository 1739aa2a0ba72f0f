//! The system under test: `passbook dev up` as its users start it. One is
//! shared by all tests that do no harm; a test that breaks things starts its
//! own.

use std::{
    fs::{self, DirBuilder, File},
    io::Write,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use devstack::{Fault, FaultClient, StackFile};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, Uid},
};
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::sync::OnceCell;

use crate::scale;

/// Longer than a slow machine needs for everything.
const START: Duration = Duration::from_secs(120);

static SHARED: OnceCell<Stack> = OnceCell::const_new();

/// A running system.
#[derive(Debug)]
pub struct Stack {
    /// Its folder.
    pub dir: PathBuf,
    /// What it wrote to stderr.
    pub log: PathBuf,
    child: Option<Child>,
}

/// The `passbook` program of the same build: beside this one, or above a
/// test's.
#[must_use]
pub fn passbook() -> PathBuf {
    let me = std::env::current_exe().unwrap();
    let folder = me.parent().unwrap();
    let places = [folder, folder.parent().unwrap()].map(|it| it.join("passbook"));
    let found = places.iter().find(|it| it.is_file());
    found
        .unwrap_or_else(|| panic!("{} is not built: `make test` does it", places[1].display()))
        .clone()
}

/// A new folder for a stack; other users can pass through it.
#[must_use]
pub fn folder(name: &str) -> PathBuf {
    let all = std::env::temp_dir();
    let mine = all.join(format!("passbook-tests-{}", std::process::id()));
    if !mine.exists() {
        // What earlier runs left, unless they are still running.
        for old in fs::read_dir(&all).unwrap().flatten() {
            let name = old.file_name();
            let pid = name.to_str().and_then(|name| name.strip_prefix("passbook-tests-"));
            if pid.and_then(|pid| pid.parse().ok()).is_some_and(|pid: i32| !runs(pid)) {
                let _ = fs::remove_dir_all(old.path());
            }
        }
    }
    let folder = mine.join(name);
    DirBuilder::new().recursive(true).mode(0o711).create(&folder).unwrap();
    folder
}

/// Whether a process is there.
#[must_use]
pub fn runs(pid: i32) -> bool {
    kill(Pid::from_raw(pid), None).is_ok()
}

/// Sends a signal.
pub fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
}

/// Starts `passbook` so that it ends with the test process, however that
/// ends.
pub fn start(arguments: &[&str], user: Option<Uid>, stdin: Stdio, log: &Path) -> Child {
    start_by(&[passbook().to_str().unwrap()], arguments, user, stdin, log)
}

/// As [`start`], by a command before the arguments.
pub(crate) fn start_by(
    by: &[&str],
    arguments: &[&str],
    user: Option<Uid>,
    stdin: Stdio,
    log: &Path,
) -> Child {
    let mut command = Command::new(passbook());
    command.args(["bound-exec", "--signal", "SIGTERM", "--parent"]);
    command.arg(std::process::id().to_string());
    if let Some(user) = user {
        command.args(["--uid", &user.to_string(), "--gid", &user.to_string()]);
    }
    command.arg("--").args(by).args(arguments);
    // `make test` may itself run under settings that are not meant for this stack.
    for (name, _) in std::env::vars().filter(|(name, _)| is_setting(name)) {
        command.env_remove(name);
    }
    // Where `make run` looks: the tests' own working directory is another one.
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    command.current_dir(workspace);
    command.stdin(stdin).stdout(File::create(log.with_extension("out")).unwrap());
    command.stderr(File::create(log).unwrap());
    spawn(command)
}

fn is_setting(name: &str) -> bool {
    let kept = ["PASSBOOK_POSTGRES_BIN", "PASSBOOK_NATS_SERVER", "PASSBOOK_TOOLS_DIR"];
    (name.starts_with("PASSBOOK_") || name.starts_with("OTEL_")) && !kept.contains(&name)
}

/// The death signal of a child belongs to the thread that spawned it: one
/// thread that stays, since a test's own ends with the test.
fn spawn(command: Command) -> Child {
    type Request = (Command, mpsc::Sender<Child>);
    static SPAWNER: std::sync::OnceLock<mpsc::Sender<Request>> = std::sync::OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (requests, inbox) = mpsc::channel::<Request>();
        thread::spawn(move || {
            for (mut command, answer) in inbox {
                let _ = answer.send(command.spawn().unwrap());
            }
        });
        requests
    });
    let (answer, child) = mpsc::channel();
    spawner.send((command, answer)).unwrap();
    child.recv().unwrap()
}

/// Runs `passbook` to its end.
pub async fn run(arguments: &[&str]) -> Output {
    run_with(arguments, &[]).await
}

/// As [`run`], with these settings.
pub async fn run_with(arguments: &[&str], settings: &[(&str, &str)]) -> Output {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut command = tokio::process::Command::new(passbook());
    command.args(arguments).envs(settings.iter().copied());
    let output = command.current_dir(workspace).output();
    tokio::time::timeout(START, output).await.expect("passbook ends").unwrap()
}

impl Stack {
    /// The one that all harmless tests share: two replicas of each service.
    pub async fn shared() -> &'static Self {
        SHARED.get_or_init(|| Self::start("shared")).await
    }

    /// One of a test's own: two replicas of each service.
    pub async fn start(name: &str) -> Self {
        Self::start_in(&folder(name), &["--port", "0"]).await
    }

    /// One in a given folder, with these arguments to `passbook dev up`.
    pub async fn start_in(dir: &Path, arguments: &[&str]) -> Self {
        Self::start_with(dir, arguments, Stdio::null()).await
    }

    /// One whose terminal, or whatever else stands at its input, is this.
    pub async fn start_with(dir: &Path, arguments: &[&str], stdin: Stdio) -> Self {
        let log = dir.with_extension("log");
        let dir_text = dir.to_str().unwrap();
        let release: &[&str] = if scale::full() { &["--release"] } else { &[] };
        let arguments = [&["dev", "up", "--dir", dir_text], release, arguments].concat();
        let child = start(&arguments, None, stdin, &log);
        Self::ready(child, dir, log).await
    }

    /// As [`Stack::start_in`], with settings as `NAME=value`.
    pub async fn start_under(dir: &Path, settings: &[String], arguments: &[&str]) -> Self {
        let (program, log) = (passbook(), dir.with_extension("log"));
        let settings = settings.iter().map(String::as_str);
        let by: Vec<_> = ["env"].into_iter().chain(settings).chain(program.to_str()).collect();
        let arguments = [&["dev", "up", "--dir", dir.to_str().unwrap()], arguments].concat();
        let child = start_by(&by, &arguments, None, Stdio::null(), &log);
        Self::ready(child, dir, log).await
    }

    /// Waits until the stack of this process says in `dir` that it is ready.
    async fn ready(mut child: Child, dir: &Path, log: PathBuf) -> Self {
        let (child_id, deadline) = (child.id(), Instant::now() + START);
        // A killed one leaves its file behind: only the new supervisor's counts.
        let mine = |file: StackFile| file.supervisor == child_id;
        while !StackFile::find(dir).unwrap().is_some_and(mine) {
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "no stack:\n{}", text(&log));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Self { dir: dir.to_owned(), log, child: Some(child) }
    }

    /// Its addresses and processes, as they are now.
    #[must_use]
    pub fn file(&self) -> StackFile {
        StackFile::read(&self.dir).unwrap()
    }

    /// Has a fault happen to everything whose name fits. The stack must have
    /// been started with `--faults`.
    pub async fn fault(&self, on: &str, fault: Fault) -> Vec<String> {
        let client = FaultClient::of(&self.file()).unwrap();
        client.inject(on, fault).await.unwrap()
    }

    /// The id that the process of this name has now.
    #[must_use]
    pub fn pid(&self, name: &str) -> u32 {
        let file = self.file();
        let process = file.processes.iter().find(|process| process.name == name);
        process.unwrap_or_else(|| panic!("no process {name}")).pid
    }

    /// A pool on the account database.
    pub async fn accounts(&self) -> PgPool {
        pool(&self.file().databases.account).await
    }

    /// A pool on the transaction database.
    pub async fn ledger(&self) -> PgPool {
        pool(&self.file().databases.transaction).await
    }

    /// Stops it and waits for its end. Gives the exit code.
    pub fn stop(&mut self, by: Signal) -> Option<i32> {
        let mut child = self.child.take()?;
        signal(child.id(), by);
        child.wait().unwrap().code()
    }

    /// Stops it and leaves its folder, for a person to look into.
    #[must_use]
    pub fn keep(mut self) -> PathBuf {
        self.stop(Signal::SIGTERM);
        self.dir.clone()
    }

    /// Its exit code, if it has ended by itself.
    pub fn ended(&mut self) -> Option<i32> {
        let code = self.child.as_mut()?.try_wait().unwrap()?.code();
        self.child = None;
        code
    }

    /// Its supervisor's process id.
    #[must_use]
    pub fn supervisor(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // One that the test stopped may have a successor in its folder.
        if self.stop(Signal::SIGTERM).is_some() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// A disk of 300 MB for PostgreSQL, which only the stack on it sees: it goes
/// away with the stack's processes.
#[derive(Debug)]
pub struct SmallDisk {
    /// Where the stack sees it.
    dir: PathBuf,
}

impl SmallDisk {
    /// `None` where this user may not mount one.
    pub async fn mount(name: &str) -> Option<Self> {
        let disk = Self { dir: folder(name) };
        let mut tried = tokio::process::Command::new("unshare");
        tried.args(["--mount", "sh", "-c"]).arg(disk.script("true"));
        let outcome = tried.output().await.ok()?;
        outcome.status.success().then_some(disk)
    }

    /// Mounts it and goes on with `command`.
    fn script(&self, command: &str) -> String {
        let dir = self.dir.display();
        // The broker's data is elsewhere: it is PostgreSQL that has no room.
        format!(
            "mount -t tmpfs -o size=300m,mode=0711 passbook {dir} && mkdir -p {dir}.nats && \
             ln -s {dir}.nats {dir}/nats && {command}"
        )
    }

    /// Starts a stack on it.
    pub async fn start(&self, arguments: &[&str]) -> Stack {
        let (program, dir) = (passbook(), self.dir.display());
        let up = format!("exec {} dev up --dir {dir} {}", program.display(), arguments.join(" "));
        let log = self.dir.with_extension("log");
        let by = ["unshare", "--mount", "sh", "-c", &self.script(&up)];
        let child = start_by(&by, &[], None, Stdio::null(), &log);
        let seen = PathBuf::from(format!("/proc/{}/root{dir}", child.id()));
        Stack::ready(child, &seen, log).await
    }

    /// Leaves no room on it.
    pub fn fill(&self, stack: &Stack) {
        let mut ballast = File::create(stack.dir.join("ballast")).unwrap();
        for chunk in [vec![1; 1 << 20], vec![1; 4096]] {
            while ballast.write_all(&chunk).is_ok() {}
        }
    }

    /// Takes away what filled it.
    pub fn make_room(&self, stack: &Stack) {
        fs::remove_file(stack.dir.join("ballast")).unwrap();
    }
}

/// A file's text, for a failing test's message.
#[must_use]
pub fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| format!("{}: {error}", path.display()))
}

async fn pool(url: &str) -> PgPool {
    PgPoolOptions::new().max_connections(3).connect(url).await.unwrap()
}
