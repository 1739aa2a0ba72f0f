//! A report-service whose clock is a day ahead: a further replica of a stack, with
//! Debian's libfaketime between the process and the system's clock.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tests::{Client, Stack, eventually, process::passbook};

/// Started with the settings of `report-service-0`. Ends when it is dropped.
pub(super) struct FakedReplica {
    child: Child,
    /// The URL of its API.
    pub(super) url: String,
}

impl FakedReplica {
    /// Starts it and waits until it answers.
    pub(super) async fn start_a_day_ahead(stack: &Stack) -> Self {
        let free_port = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (api, admin) = (free_port(), free_port());
        let environment = fs::read(format!("/proc/{}/environ", stack.pid("report-service-0")));
        let environment = String::from_utf8(environment.unwrap()).unwrap();
        let variables = environment.split('\0').filter_map(|variable| variable.split_once('='));
        let log = fs::File::create(stack.dir.join("a-day-ahead.log")).unwrap();
        let child = Command::new(passbook().with_file_name("report-service"))
            .env_clear()
            .envs(variables)
            .env("PASSBOOK_LISTEN", api.to_string())
            .env("PASSBOOK_ADMIN_LISTEN", admin.to_string())
            // Its clean-up would take the files of other replicas for old ones.
            .env("PASSBOOK_REPORT_CLEANUP_EVERY", "60m")
            .env("LD_PRELOAD", libfaketime())
            .env("FAKETIME", "+1d")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let replica = Self { child, url: format!("http://{api}") };
        let http = reqwest::Client::new();
        eventually("the replica with another clock is ready", Duration::from_secs(30), || async {
            let ready = http.get(format!("http://{admin}/readyz")).send().await.ok()?;
            ready.status().is_success().then_some(())
        })
        .await;
        replica
    }

    /// The process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A client of this replica with a token that is valid there.
    pub(super) fn client(&self, stack: &Stack) -> Client {
        Client::new(&self.url, &stack.file().tokens.teller)
    }
}

impl Drop for FakedReplica {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The library, wherever Debian's architecture has it.
fn libfaketime() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").unwrap().map(|folder| folder.unwrap().path());
    let library = |folder: &Path| folder.join("faketime/libfaketimeMT.so.1");
    let found = folders.map(|folder| library(&folder)).find(|library| library.is_file());
    found.expect("libfaketime is missing: install Debian's package libfaketime")
}
