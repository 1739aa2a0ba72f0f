//! A Prometheus and a Pushgateway for one test, from Debian's packages.

use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use nix::sys::signal::Signal;
use reqwest::Url;
use serde_json::{Value, json};

use crate::{
    Stack, eventually,
    process::{read_log, signal, start_by},
    wait,
};

const START: Duration = Duration::from_secs(30);

/// Whether the programs are installed. If not, this fails the test in CI and prints a message
/// elsewhere.
#[must_use]
pub fn installed() -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let is_installed = |name: &&str| env::split_paths(&path).any(|dir| dir.join(name).is_file());
    let required = ["prometheus", "promtool", "prometheus-pushgateway"];
    let Some(missing) = required.iter().find(|name| !is_installed(name)) else { return true };
    let reason = format!(
        "{missing} is missing: install Debian's packages prometheus and prometheus-pushgateway"
    );
    assert!(env::var_os("CI").is_none(), "{reason}");
    // The test harness captures `eprintln!` and shows it only for a test that fails.
    io::stderr().write_all(format!("DID NOT RUN: {reason}\n").as_bytes()).unwrap();
    false
}

/// A server on a free port. It stops when this is dropped.
#[derive(Debug)]
struct Server {
    child: Child,
    address: String,
}

impl Server {
    async fn start(program: &str, arguments: &[&str], log: &Path) -> Self {
        let arguments = [&["--web.listen-address=127.0.0.1:0"], arguments].concat();
        let child = start_by(&[program], &arguments, None, Stdio::null(), log);
        let what = format!("{program} listens, see {log:?}");
        let address = wait::eventually_now(&what, START, || {
            let text = read_log(log);
            let line = text.lines().find(|line| line.contains("msg=\"Listening on\""))?;
            let address = line.split(' ').find_map(|field| field.strip_prefix("address="));
            address.map(ToOwned::to_owned)
        })
        .await;
        Self { child, address }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        signal(self.child.id(), Signal::SIGTERM);
        self.child.wait().unwrap();
    }
}

#[derive(Debug)]
pub struct Pushgateway(Server);

impl Pushgateway {
    /// Starts it with its log in the stack's directory.
    pub async fn start(stack: &Stack) -> Self {
        let log = stack.dir.join("pushgateway.log");
        // Debian's default is a file shared by the whole machine.
        Self(Server::start("prometheus-pushgateway", &["--persistence.file="], &log).await)
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.0.address)
    }

    /// Replaces all metrics of a job.
    pub async fn put(&self, job: &str, metrics: String) {
        let request = reqwest::Client::new().put(self.group(job)).body(metrics);
        request.send().await.unwrap().error_for_status().unwrap();
    }

    /// Deletes all metrics of a job.
    pub async fn delete(&self, job: &str) {
        let request = reqwest::Client::new().delete(self.group(job));
        request.send().await.unwrap().error_for_status().unwrap();
    }

    fn group(&self, job: &str) -> String {
        format!("{}/metrics/job/{job}", self.url())
    }
}

/// An alerting rule and its state.
#[derive(Debug, Clone)]
pub struct Alert {
    /// The rule's name, followed by its label `job` if it has one: two rules may share a name.
    pub name: String,
    pub firing: bool,
}

/// Scrapes a stack and a Pushgateway, and evaluates rules, once a second.
#[derive(Debug)]
pub struct Prometheus {
    server: Server,
    rules: PathBuf,
}

impl Prometheus {
    /// Starts it with its data in the stack's directory.
    pub async fn start(stack: &Stack, gateway: &Pushgateway, rules: &str) -> Self {
        let dir = stack.dir.join("prometheus");
        fs::create_dir(&dir).unwrap();
        let (config, data) = (dir.join("prometheus.yml"), dir.join("data"));
        fs::write(dir.join("rules.yaml"), rules).unwrap();
        // JSON is YAML.
        fs::write(&config, configuration(stack, gateway).to_string()).unwrap();
        let arguments = [
            "--web.enable-lifecycle",
            &format!("--config.file={}", config.display()),
            &format!("--storage.tsdb.path={}", data.display()),
        ];
        let server = Server::start("prometheus", &arguments, &dir.join("log")).await;
        let prometheus = Self { server, rules: dir.join("rules.yaml") };
        eventually("Prometheus is ready", START, || async {
            let response = reqwest::get(prometheus.url("/-/ready")).await.ok()?;
            response.status().is_success().then_some(())
        })
        .await;
        prometheus
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.address)
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let url = Url::parse_with_params(&self.url(path), query).unwrap();
        let response: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
        assert_eq!(response["status"], "success", "{query:?}: {response:#}");
        response["data"].clone()
    }

    /// Loads other rules.
    pub async fn replace_rules(&self, rules: &str) {
        fs::write(&self.rules, rules).unwrap();
        let request = reqwest::Client::new().post(self.url("/-/reload"));
        request.send().await.unwrap().error_for_status().unwrap();
    }

    /// The first value of an expression; `None` if the result is empty.
    pub async fn value(&self, expression: &str) -> Option<f64> {
        let data = self.get("/api/v1/query", &[("query", expression)]).await;
        data["result"][0]["value"][1].as_str().map(|value| value.parse().unwrap())
    }

    /// Whether every target answers and every rule is evaluated.
    pub async fn is_healthy(&self) -> bool {
        let data = self.get("/api/v1/targets", &[]).await;
        let targets = data["activeTargets"].as_array().unwrap();
        targets.iter().all(|target| target["health"] == "up")
            && self.rules().await.iter().all(|rule| rule["health"] == "ok")
    }

    /// Every alerting rule; panics if a rule or an alert's text can't be evaluated.
    pub async fn alerts(&self) -> Vec<Alert> {
        let rules = self.rules().await;
        let alerting = rules.iter().filter(|rule| rule["type"] == "alerting");
        let alert = |rule: &Value| {
            let job = rule["labels"]["job"].as_str();
            let job = job.map(|job| format!(" {job}")).unwrap_or_default();
            let name = format!("{}{job}", rule["name"].as_str().unwrap());
            // A template that can't be evaluated leaves this in its text.
            assert!(!rule["alerts"].to_string().contains("<error"), "{rule:#}");
            Alert { name, firing: rule["state"] == "firing" }
        };
        alerting.map(alert).collect()
    }

    async fn rules(&self) -> Vec<Value> {
        let data = self.get("/api/v1/rules", &[]).await;
        let groups = data["groups"].as_array().unwrap().iter();
        let rules: Vec<_> =
            groups.flat_map(|group| group["rules"].as_array().unwrap().clone()).collect();
        let failed = rules.iter().find(|rule| rule["health"] == "err");
        assert!(failed.is_none(), "{failed:#?}");
        rules
    }
}

/// A configuration as deploy/observability/README.md describes it. The label `instance` is the
/// name of a replica instead of its address.
fn configuration(stack: &Stack, gateway: &Pushgateway) -> Value {
    let file = stack.file();
    let job = |service: &str| {
        let replicas = file.processes.iter().filter(|process| process.name.starts_with(service));
        let target = |replica: &devstack::Process| {
            let admin = replica.admin.as_deref().unwrap().trim_start_matches("http://");
            json!({ "targets": [admin], "labels": { "instance": replica.name } })
        };
        let targets: Vec<_> = replicas.map(target).collect();
        json!({ "job_name": service, "static_configs": targets })
    };
    json!({
        "global": { "scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s" },
        "rule_files": ["rules.yaml"],
        "scrape_configs": [
            job("account-service"),
            job("transaction-service"),
            job("report-service"),
            job("webhook-service"),
            {
                "job_name": "pushgateway",
                "honor_labels": true,
                "static_configs": [{ "targets": [gateway.0.address] }],
            },
        ],
    })
}
