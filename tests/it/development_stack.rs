//! `passbook dev` as a person uses it: ports, signals and directories.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::TcpListener,
    os::unix::fs::{MetadataExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use devstack::stack_dir::MARKER;
use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    pty::openpty,
    sys::signal::Signal,
    unistd::{Uid, chown, geteuid},
};
use tests::{
    Client, Stack,
    client::new_key,
    eventually,
    process::{self, exists, read_log, signal},
    stack::folder,
    wait,
};

async fn all_exited(pids: &[u32]) {
    wait::eventually_now("all processes have exited", Duration::from_secs(10), || {
        let any = pids.iter().any(|pid| exists(i32::try_from(*pid).unwrap()));
        (!any).then_some(())
    })
    .await;
}

fn pids(stack: &Stack) -> Vec<u32> {
    stack.file().processes.iter().map(|process| process.pid).chain([stack.supervisor()]).collect()
}

async fn balance(stack: &Stack, account: &str) -> String {
    Client::teller(stack).account(account).await.text("balance").to_owned()
}

#[tokio::test]
async fn balances_survive_every_kind_of_stop() {
    let dir = folder("stopped");
    let mut running = Stack::start_in(&dir, &["--port", "0"]).await;
    let client = Client::teller(&running);
    let account = client.open_account("KRW").await;
    assert_eq!(client.deposit(&account, "10000").await.text("status"), "SUCCESS");
    for by in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGKILL] {
        let pids = pids(&running);
        let code = running.stop(by);
        assert_eq!(code, (by != Signal::SIGKILL).then_some(0), "{by}: {}", read_log(&running.log));
        all_exited(&pids).await;
        // As in the folder of an earlier release.
        fs::remove_file(dir.join(MARKER)).unwrap();
        running = Stack::start_in(&dir, &["--port", "0"]).await;
        assert_eq!(balance(&running, &account).await, "10000", "after {by}");
    }
}

#[tokio::test]
async fn the_stack_stops_cleanly_when_its_terminal_closes() {
    let terminal = openpty(None, None).unwrap();
    // Otherwise the children would keep the terminal open.
    fcntl(&terminal.master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
    fcntl(&terminal.slave, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
    let dir = folder("terminal");
    let input = Stdio::from(terminal.slave);
    let mut running = Stack::start_with(&dir, &["--port", "0"], input).await;
    let pids = pids(&running);
    // The process gets no SIGHUP: it is not its session's leader.
    drop(terminal.master);
    let limit = Duration::from_secs(20);
    let code = wait::eventually_now("the stack exits", limit, || running.exited()).await;
    assert_eq!(code, 0, "{}", read_log(&running.log));
    all_exited(&pids).await;
}

#[tokio::test]
async fn ports_in_use_are_reported_and_left_alone() {
    // From now on the ports are in use, by this test or by another process.
    let _listeners = [4222, 5432, 8080].map(|port| TcpListener::bind(("127.0.0.1", port)));
    let running = Stack::start_in(&folder("ports"), &[]).await;
    let log = read_log(&running.log);
    assert!(log.contains("8080"), "{log}");
    assert!(!running.file().api.ends_with(":8080"));
    let client = Client::teller(&running);
    let account = client.open_account("KRW").await;
    assert_eq!(client.deposit(&account, "1").await.text("status"), "SUCCESS");

    // A second stack beside it is asked to use the port of the first one.
    let port = running.file().api.rsplit(':').next().unwrap().to_owned();
    let second = folder("second");
    let refused = process::run(&["dev", "up", "--dir", path(&second), "--port", &port]).await;
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains(&port), "{refused:?}");
    let beside = Stack::start_in(&second, &["--port", "0"]).await;
    let other = Client::teller(&beside).open_account("KRW").await;
    let stranger = Client::new(&beside.file().api, &running.file().tokens.teller);
    assert_eq!(stranger.account(&other).await.status, 401, "a token of another stack is accepted");

    let again = process::run(&["dev", "up", "--dir", path(&running.dir), "--port", "0"]).await;
    assert_eq!(again.status.code(), Some(2));
    let supervisor = running.supervisor().to_string();
    assert!(String::from_utf8_lossy(&again.stderr).contains(&supervisor), "{again:?}");
}

#[tokio::test]
async fn a_detached_stack_answers_status_and_down() {
    let dir = folder("detached in a folder with blanks");
    let none = process::run(&["dev", "status", "--dir", path(&dir)]).await;
    assert_eq!(none.status.code(), Some(1));
    let up = process::run(&["dev", "up", "--detach", "--port", "0", "--dir", path(&dir)]).await;
    assert_eq!(up.status.code(), Some(0), "{up:?}");
    let status = process::run(&["dev", "status", "-o", "json", "--dir", path(&dir)]).await;
    assert_eq!(status.status.code(), Some(0), "{status:?}");
    let file = devstack::StackFile::read(&dir).unwrap();
    let pids: Vec<_> = file.processes.iter().map(|process| process.pid).collect();
    assert_eq!(pids.len(), 8);
    let printed = String::from_utf8_lossy(&up.stdout);
    let hint = printed.lines().find_map(|line| line.strip_prefix("passbook dev down")).unwrap();
    let down = format!("{} dev down{hint}", process::passbook().display());
    let down = Command::new("sh").args(["-c", &down]).output().unwrap();
    assert_eq!(down.status.code(), Some(0), "{down:?}");
    all_exited(&pids).await;
    assert_eq!(process::run(&["dev", "down", "--dir", path(&dir)]).await.status.code(), Some(0));
    std::fs::remove_dir_all(&dir).unwrap();
}

/// The contents of every file below `dir`.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            files.extend(contents(&entry.path()));
        } else {
            files.insert(entry.path(), fs::read(entry.path()).unwrap());
        }
    }
    files
}

fn write(path: PathBuf) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "of a person").unwrap();
}

#[tokio::test]
async fn a_folder_with_files_of_a_person_is_refused_and_left_as_it_is() {
    let dir = folder("a person's files");
    for name in ["nats.conf", "logs/stack.log", "nats/jetstream/x", "postgres/PG_VERSION"] {
        write(dir.join(name));
    }
    // Another program's lock, with the id of its process.
    let mut other = Command::new("sleep").arg("60").spawn().unwrap();
    fs::write(dir.join("lock"), other.id().to_string()).unwrap();
    let lock = File::open(dir.join("lock")).unwrap();
    lock.try_lock().unwrap();
    let before = contents(&dir);
    for (arguments, code) in [
        (&["dev", "up", "--port", "0"][..], 2),
        (&["dev", "up", "--port", "0", "--detach"], 2),
        (&["dev", "demo"], 2),
        (&["dev", "down"], 0),
        (&["dev", "down", "--remove-data"], 2),
        (&["dev", "status"], 1),
    ] {
        let output = process::run(&[arguments, &["--dir", path(&dir)]].concat()).await;
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains(path(&dir)), "{arguments:?}: {error}");
        assert_eq!(contents(&dir), before, "{arguments:?}");
        assert_eq!(other.try_wait().unwrap(), None, "{arguments:?} ended another process");
    }
    other.kill().unwrap();
    other.wait().unwrap();
}

#[tokio::test]
async fn an_interrupted_first_start_is_continued_and_only_its_data_is_removed() {
    let dir = folder("interrupted");
    let services = ["account", "transaction", "report", "webhook"];
    let services = services.map(|service| format!("--{service}-replicas"));
    let services: Vec<_> =
        services.iter().map(String::as_str).flat_map(|service| [service, "0"]).collect();
    let up = [&["dev", "up", "--port", "0", "--dir", path(&dir)], &services[..]].concat();
    let log = dir.with_extension("log");
    for by in [Signal::SIGKILL, Signal::SIGINT] {
        let begun = SystemTime::now();
        let mut child = process::start(&up, None, Stdio::null(), &log);
        wait::eventually_now("initdb writes its data", Duration::from_secs(30), || {
            // Not the file of the start before.
            let written = dir.join("postgres.new/data/global/pg_control").metadata().ok()?;
            (written.modified().unwrap() > begun).then_some(())
        })
        .await;
        signal(child.id(), by);
        let code = child.wait().unwrap().code();
        assert_eq!(code, (by != Signal::SIGKILL).then_some(0), "{by}: {}", read_log(&log));
    }
    let mut running = Stack::start_in(&dir, &[&["--port", "0"], &services[..]].concat()).await;
    assert!(!dir.join("postgres.new").exists());
    assert_eq!(running.stop(Signal::SIGTERM), Some(0));

    let own = ["notes", "logs/app.log", "artifacts/notes", "nats/notes"].map(|name| dir.join(name));
    for path in own.clone() {
        write(path);
    }
    let mut down = Command::new(process::passbook());
    down.args(["dev", "down", "--remove-data", "--dir", "."]).current_dir(&dir);
    let down = down.output().unwrap();
    assert_eq!(down.status.code(), Some(0), "{down:?}");
    assert_eq!(contents(&dir).into_keys().collect::<Vec<_>>(), {
        let mut own = own.to_vec();
        own.sort();
        own
    });
    let printed = String::from_utf8_lossy(&down.stderr);
    for name in ["notes", "app.log"] {
        assert!(printed.contains(name), "{printed}");
    }
}

#[tokio::test]
async fn the_data_behind_a_link_is_removed_and_what_links_lead_to_is_not() {
    let (dir, elsewhere) = (folder("linked"), folder("elsewhere"));
    write(elsewhere.join("PG_VERSION"));
    let link = dir.with_file_name("link");
    symlink(&dir, &link).unwrap();
    for (given, is_removed) in
        [("link", false), ("link/", false), ("linked/.", false), ("linked//", true)]
    {
        // As after a start that was interrupted, here or in an earlier release.
        for name in [MARKER, "postgres.password", "secrets.json.new", "postgres.new/password"] {
            write(dir.join(name));
        }
        symlink(&elsewhere, dir.join("postgres")).unwrap();
        let given = dir.with_file_name(given);
        let remove = ["dev", "down", "--remove-data", "--dir", path(&given)];
        let first = process::run(&remove).await;
        assert_eq!(first.status.code(), Some(0), "{first:?}");
        let left: Vec<_> =
            fs::read_dir(&dir).unwrap().flatten().map(|left| left.file_name()).collect();
        assert_eq!(left, ["postgres"], "{first:?}");
        fs::remove_file(dir.join("postgres")).unwrap();
        write(dir.join(MARKER));
        let second = process::run(&remove).await;
        assert_eq!(second.status.code(), Some(0), "{second:?}");
        assert_eq!(dir.exists(), !is_removed, "{second:?}");
        assert!(link.is_symlink());
    }
    assert!(elsewhere.join("PG_VERSION").exists());
}

#[tokio::test]
async fn a_process_that_is_killed_comes_back_and_goes_on() {
    let running = Stack::start("killed").await;
    let client = Client::teller(&running);
    let account = client.open_account("KRW").await;
    for name in
        ["account-service-0", "account-service-1", "transaction-service-0", "nats", "postgres"]
    {
        let before = running.pid(name);
        signal(before, Signal::SIGKILL);
        running.restarted(name, before, Duration::from_secs(10)).await;
    }
    // Accepted once PostgreSQL is up again, settled once everything is.
    let key = new_key();
    let settled = eventually("a deposit succeeds", Duration::from_secs(60), || async {
        let response = client.movement("deposits", &account, "1", &key, Some(5)).await;
        (response.text("status") == "SUCCESS").then_some(response)
    })
    .await;
    assert_eq!(settled.text("balanceAfter"), "1");
}

#[tokio::test]
async fn settings_of_reports_reach_the_report_service_only() {
    const KEY: &str = "a-key-of-the-language-model";
    let dir = folder("report-settings");
    let settings = [
        "PASSBOOK_LLM_BASE_URL=http://127.0.0.1:9".to_owned(),
        "PASSBOOK_LLM_MODEL=none".to_owned(),
        format!("PASSBOOK_LLM_API_KEY={KEY}"),
        "PASSBOOK_REPORT_RETENTION=7d".to_owned(),
    ];
    let running = Stack::start_under(&dir, &settings, &["--port", "0"]).await;
    for process in running.file().processes {
        let environment = std::fs::read(format!("/proc/{}/environ", process.pid)).unwrap();
        let environment = String::from_utf8_lossy(&environment).into_owned();
        let is_reports = process.name == "report-service-0";
        for setting in [KEY, "PASSBOOK_REPORT_RETENTION=7d", "PASSBOOK_REPORT_SIGNING_KEY="] {
            assert_eq!(environment.contains(setting), is_reports, "{}: {setting}", process.name);
        }
    }
    let mut folders = vec![dir];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if let Ok(bytes) = std::fs::read(&path) {
                let found = bytes.windows(KEY.len()).any(|window| window == KEY.as_bytes());
                assert!(!found, "{}", path.display());
            }
        }
    }
}

#[tokio::test]
async fn the_demo_ends_by_itself_and_its_figures_are_right() {
    let dir = folder("demo");
    let demo = process::run(&["dev", "demo", "--dir", path(&dir)]).await;
    assert_eq!(demo.status.code(), Some(0), "{}", String::from_utf8_lossy(&demo.stdout));
    let printed = String::from_utf8_lossy(&demo.stdout);
    for shown in ["INSUFFICIENT_FUNDS", "closing.balance 7500", ".pdf"] {
        assert!(printed.contains(shown), "{printed}");
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

#[tokio::test]
async fn root_can_run_the_stack_as_an_ordinary_user() {
    let nobody = Uid::from_raw(65534);
    let searchable = |dir: &Path| dir.metadata().unwrap().mode() & 0o001 != 0;
    if !geteuid().is_root() || !process::passbook().ancestors().skip(1).all(searchable) {
        // An ordinary user runs all other tests this way. In a private clone, another user can't
        // execute the programs.
        return;
    }
    let dir = folder("ordinary-user");
    chown(&dir, Some(nobody), Some(nobody.as_raw().into())).unwrap();
    let log = dir.with_extension("log");
    let mut demo =
        process::start(&["dev", "demo", "--dir", path(&dir)], Some(nobody), Stdio::null(), &log);
    let limit = Duration::from_secs(120);
    wait::eventually_now("the demo exits", limit, || demo.try_wait().unwrap()).await;
    assert!(demo.wait().unwrap().success(), "{}", read_log(&log));
    assert_eq!(dir.join("postgres").metadata().unwrap().uid(), nobody.as_raw());
}

fn path(dir: &Path) -> &str {
    dir.to_str().unwrap()
}
