//! A further replica of a service of a stack, started by the test with changed settings.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tests::{Client, Stack, eventually, faketime, process::passbook};

/// The settings of a service's first replica.
pub(crate) fn settings(stack: &Stack, service: &str) -> Vec<(String, String)> {
    let environment = fs::read(format!("/proc/{}/environ", stack.pid(&format!("{service}-0"))));
    let environment = String::from_utf8(environment.unwrap()).unwrap();
    let variables = environment.split('\0').filter_map(|variable| variable.split_once('='));
    variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// A process with the settings of a service's first replica, and others. Ends when it is dropped.
pub(crate) struct OwnReplica {
    pub(crate) child: Child,
    api: SocketAddr,
    admin: SocketAddr,
}

impl OwnReplica {
    /// Starts a report-service. `more` are further variables, `log` the name of its log in the
    /// stack's folder.
    pub(crate) fn start(stack: &Stack, log: &str, more: &[(&str, &str)]) -> Self {
        Self::start_service(stack, "report-service", log, more)
    }

    /// Starts a replica of this service.
    pub(crate) fn start_service(
        stack: &Stack,
        service: &str,
        log: &str,
        more: &[(&str, &str)],
    ) -> Self {
        let free_port = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (api, admin) = (free_port(), free_port());
        let log = fs::File::create(stack.dir.join(log)).unwrap();
        let child = Command::new(passbook().with_file_name(service))
            .env_clear()
            .envs(settings(stack, service))
            .env("PASSBOOK_LISTEN", api.to_string())
            .env("PASSBOOK_ADMIN_LISTEN", admin.to_string())
            .envs(more.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child, api, admin }
    }

    /// Starts it with a clock that is a day ahead, by Debian's libfaketime, and waits until it
    /// is ready.
    pub(crate) async fn start_a_day_ahead(stack: &Stack) -> Self {
        let library = faketime::library();
        let more = [
            ("LD_PRELOAD", library.to_str().unwrap()),
            ("FAKETIME", "+1d"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ];
        let replica = Self::start(stack, "a-day-ahead.log", &more);
        eventually("the replica with another clock is ready", Duration::from_secs(30), || async {
            replica.is_ready().await.then_some(())
        })
        .await;
        replica
    }

    /// Whether `/readyz` answers with success.
    pub(crate) async fn is_ready(&self) -> bool {
        let ready = reqwest::get(format!("http://{}/readyz", self.admin)).await;
        ready.is_ok_and(|ready| ready.status().is_success())
    }

    /// A client of this replica only.
    pub(crate) fn client(&self, stack: &Stack) -> Client {
        Client::new(&format!("http://{}", self.api), &stack.file().tokens.teller)
    }
}

impl Drop for OwnReplica {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
