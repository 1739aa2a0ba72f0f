//! The system under test: `passbook dev up` as a user starts it. All tests that
//! do no harm share one stack; a test that breaks something starts its own.

use std::{
    fmt::{self, Display},
    fs::{self, DirBuilder},
    future,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use devstack::{Fault, FaultClient, StackFile};
use nix::sys::signal::Signal;
use reqwest::StatusCode;
use runtime::postgres::{CALL_LIMIT, PgPool};
use sqlx::postgres::PgPoolOptions;
use tokio::{process::Command, sync::OnceCell};

use crate::{
    eventually,
    process::{Paused, START, exists, passbook, read_log, signal, start, start_by},
    scale, wait,
};

static SHARED: OnceCell<Stack> = OnceCell::const_new();

/// The directory of a stopped stack, with databases, roles, migrations and secrets.
static INITIALIZED: OnceCell<PathBuf> = OnceCell::const_new();

const NO_REPLICAS: [&str; 6] =
    ["--account-replicas", "0", "--transaction-replicas", "0", "--report-replicas", "0"];
/// Services that a test asks for: most tests are about money, and these would only take time.
const LEFT_OUT: [&str; 2] = ["--report-replicas", "--webhook-replicas"];

/// A running system.
#[derive(Debug)]
pub struct Stack {
    /// The stack's directory.
    pub dir: PathBuf,
    /// The file with the supervisor's stderr.
    pub log: PathBuf,
    child: Option<Child>,
}

/// A new directory for a stack. Other users may pass through it.
#[must_use]
pub fn folder(name: &str) -> PathBuf {
    let temporary = std::env::temp_dir();
    let own = temporary.join(format!("passbook-tests-{}", std::process::id()));
    if !own.exists() {
        // Directories of earlier runs, unless that run is still going on.
        for old in fs::read_dir(&temporary).unwrap().flatten() {
            let name = old.file_name();
            let pid = name.to_str().and_then(|name| name.strip_prefix("passbook-tests-"));
            if pid.and_then(|pid| pid.parse().ok()).is_some_and(|pid: i32| !exists(pid)) {
                let _ = fs::remove_dir_all(old.path());
            }
        }
    }
    let folder = own.join(name);
    DirBuilder::new().recursive(true).mode(0o711).create(&folder).unwrap();
    folder
}

/// A new directory for a stack, with the databases of a first start: they are made once and
/// copied. [`folder`] gives an empty one, for a test of first starts.
pub async fn initialized_folder(name: &str) -> PathBuf {
    let source = INITIALIZED.get_or_init(|| async {
        let arguments = [["--port", "0"].as_slice(), &NO_REPLICAS].concat();
        Stack::start_in(&folder("initialized"), &arguments).await.keep()
    });
    let (source, folder) = (source.await, folder(name));
    let parts = ["postgres", "secrets.json"].map(|part| source.join(part));
    let copy = Command::new("cp").arg("-a").args(parts).arg(&folder).output().await.unwrap();
    assert!(copy.status.success(), "{copy:?}");
    folder
}

impl Stack {
    /// The stack shared by all harmless tests: two replicas of each money service, and
    /// one report-service.
    pub async fn shared() -> &'static Self {
        let arguments = ["--port", "0", "--report-replicas", "1"];
        SHARED.get_or_init(|| async { Self::start_in(&folder("shared"), &arguments).await }).await
    }

    /// A stack of the test's own for reports: one replica of each money service, and
    /// `replicas` report-services with these settings, as `NAME=value`.
    pub async fn start_reports(name: &str, replicas: u16, settings: &[String]) -> Self {
        Self::start_reports_with(name, replicas, settings, &[]).await
    }

    /// As [`Stack::start_reports`], with further arguments to `passbook dev up`.
    pub async fn start_reports_with(
        name: &str,
        replicas: u16,
        settings: &[String],
        more: &[&str],
    ) -> Self {
        let replicas = replicas.to_string();
        let mut arguments = vec!["--port", "0", "--report-replicas", &replicas];
        arguments.extend(["--account-replicas", "1", "--transaction-replicas", "1"]);
        arguments.extend(more);
        Self::start_under(&initialized_folder(name).await, settings, &arguments).await
    }

    /// A stack of the test's own: two replicas of each money service.
    pub async fn start(name: &str) -> Self {
        Self::start_in(&initialized_folder(name).await, &["--port", "0"]).await
    }

    /// As [`Stack::start`], with fault injection.
    pub async fn start_with_faults(name: &str) -> Self {
        Self::start_in(&initialized_folder(name).await, &["--port", "0", "--faults"]).await
    }

    /// PostgreSQL and NATS, without any service.
    pub async fn start_servers(name: &str) -> Self {
        let arguments = [["--port", "0"].as_slice(), &NO_REPLICAS].concat();
        Self::start_in(&initialized_folder(name).await, &arguments).await
    }

    /// A stack in `dir`, with these arguments to `passbook dev up`.
    pub async fn start_in(dir: &Path, arguments: &[&str]) -> Self {
        Self::start_with(dir, arguments, Stdio::null()).await
    }

    /// As [`Stack::start_in`], with this stdin.
    pub async fn start_with(dir: &Path, arguments: &[&str], stdin: Stdio) -> Self {
        let log = dir.with_extension("log");
        let dir_text = dir.to_str().unwrap();
        let release: &[&str] = if scale::full() { &["--release"] } else { &[] };
        let arguments =
            [&["dev", "up", "--dir", dir_text], release, &left_out(arguments), arguments].concat();
        let child = start(&arguments, None, stdin, &log);
        Self::ready(child, dir, log).await
    }

    /// As [`Stack::start_in`], with settings as `NAME=value`.
    pub async fn start_under(dir: &Path, settings: &[String], arguments: &[&str]) -> Self {
        let (program, log) = (passbook(), dir.with_extension("log"));
        let settings = settings.iter().map(String::as_str);
        let command: Vec<_> = ["env"].into_iter().chain(settings).chain(program.to_str()).collect();
        let dir_text = dir.to_str().unwrap();
        let arguments =
            [&["dev", "up", "--dir", dir_text], &left_out(arguments)[..], arguments].concat();
        let child = start_by(&command, &arguments, None, Stdio::null(), &log);
        Self::ready(child, dir, log).await
    }

    /// Waits until the stack of this process writes its stack file into `dir`.
    pub(crate) async fn ready(mut child: Child, dir: &Path, log: PathBuf) -> Self {
        let supervisor = child.id();
        wait::poll("the stack is ready", START, Duration::from_millis(20), || {
            let exited = child.try_wait().unwrap();
            assert!(exited.is_none(), "the stack has exited:\n{}", read_log(&log));
            // A killed stack leaves its file behind: only the new supervisor's file counts.
            let file = StackFile::find(dir).unwrap();
            let ready = file.is_some_and(|file| file.supervisor == supervisor);
            future::ready(if ready { Ok(()) } else { Err(Log(&log)) })
        })
        .await;
        Self { dir: dir.to_owned(), log, child: Some(child) }
    }

    /// The addresses and processes, as they are now.
    #[must_use]
    pub fn file(&self) -> StackFile {
        StackFile::read(&self.dir).unwrap()
    }

    /// Injects a fault into every process and link with a matching name. The stack must have been
    /// started with `--faults`.
    pub async fn fault(&self, on: &str, fault: Fault) -> Vec<String> {
        let client = FaultClient::of(&self.file()).unwrap();
        client.inject(on, fault).await.unwrap()
    }

    /// The current process id of the process with this name.
    #[must_use]
    pub fn pid(&self, name: &str) -> u32 {
        let file = self.file();
        let process = file.processes.iter().find(|process| process.name == name);
        process.unwrap_or_else(|| panic!("there is no process {name}")).pid
    }

    /// Pauses both replicas of the transaction-service.
    pub fn pause_workers(&self) -> Paused {
        Paused::new(["transaction-service-0", "transaction-service-1"].map(|name| self.pid(name)))
    }

    /// Waits until the process with this name has another id than `before`.
    pub async fn restarted(&self, name: &str, before: u32, within: Duration) {
        wait::eventually_now(&format!("{name} is started again"), within, || {
            (self.pid(name) != before).then_some(())
        })
        .await;
    }

    /// Waits until `/readyz` of the process with this name answers 200.
    pub async fn replica_ready(&self, name: &str) {
        self.readiness(name, StatusCode::OK).await;
    }

    /// Waits until `/readyz` of the process with this name answers 503.
    pub async fn replica_not_ready(&self, name: &str) {
        self.readiness(name, StatusCode::SERVICE_UNAVAILABLE).await;
    }

    async fn readiness(&self, name: &str, status: StatusCode) {
        let limit = Duration::from_secs(60);
        let http = reqwest::Client::builder().timeout(limit).build().unwrap();
        eventually(&format!("{name} answers {status}"), Duration::from_secs(30), || async {
            let file = self.file();
            let process = file.processes.into_iter().find(|process| process.name == name)?;
            let response = http.get(format!("{}/readyz", process.admin?)).send().await.ok()?;
            (response.status() == status).then_some(())
        })
        .await;
    }

    /// A pool on the account database.
    pub async fn accounts(&self) -> PgPool {
        pool(&self.file().databases.account).await
    }

    /// A pool on the transaction database.
    pub async fn ledger(&self) -> PgPool {
        pool(&self.file().databases.transaction).await
    }

    /// The ledger's number of the transaction of a settled record, as the account database has it.
    pub async fn transaction_number(&self, record: &str) -> i64 {
        let number = "SELECT transaction_id FROM transaction_records WHERE id = $1::uuid";
        let number = sqlx::query_scalar(number).bind(record);
        number.fetch_one(&self.accounts().await).await.unwrap()
    }

    /// A pool on the report database.
    pub async fn reports(&self) -> PgPool {
        pool(&self.file().databases.report).await
    }

    /// Stops the stack with a signal and waits for its end. Gives the exit code.
    pub fn stop(&mut self, by: Signal) -> Option<i32> {
        let mut child = self.child.take()?;
        signal(child.id(), by);
        child.wait().unwrap().code()
    }

    /// Stops the stack and leaves its directory, for a person to look into.
    #[must_use]
    pub fn keep(mut self) -> PathBuf {
        self.stop(Signal::SIGTERM);
        self.dir.clone()
    }

    /// The exit code, if the stack has exited by itself.
    pub fn exited(&mut self) -> Option<i32> {
        let code = self.child.as_mut()?.try_wait().unwrap()?.code();
        self.child = None;
        code
    }

    /// The supervisor's process id.
    #[must_use]
    pub fn supervisor(&self) -> u32 {
        self.child.as_ref().expect("the stack runs").id()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // After a stack that the test stopped itself, a new one may use the directory.
        if self.stop(Signal::SIGTERM).is_some() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// Zero replicas of the services that these arguments do not name.
fn left_out(arguments: &[&str]) -> Vec<&'static str> {
    let services = LEFT_OUT.into_iter().filter(|service| !arguments.contains(service));
    services.flat_map(|service| [service, "0"]).collect()
}

/// A log file. It is read when it is shown.
struct Log<'a>(&'a Path);

impl Display for Log<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "its log:\n{}", read_log(self.0))
    }
}

async fn pool(url: &str) -> PgPool {
    let pool = PgPoolOptions::new().max_connections(3);
    PgPool::connect_lazy(pool, url.parse().unwrap(), CALL_LIMIT)
}
