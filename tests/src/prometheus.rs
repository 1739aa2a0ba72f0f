//! A Prometheus and a Pushgateway of a test's own, as Debian packages them.

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
    stack::{self, signal, text},
};

const START: Duration = Duration::from_secs(30);

/// Whether the programs are here. Where they are not, it says so past what
/// catches the output of tests that pass; in CI that fails the test.
#[must_use]
pub fn installed() -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let is_there = |name: &&str| env::split_paths(&path).any(|it| it.join(name).is_file());
    let wanted = ["prometheus", "promtool", "prometheus-pushgateway"];
    let Some(missing) = wanted.iter().find(|it| !is_there(it)) else { return true };
    let why = format!(
        "there is no {missing}: install Debian's packages prometheus and prometheus-pushgateway"
    );
    assert!(env::var_os("CI").is_none(), "{why}");
    // `eprintln!` is what would be caught.
    io::stderr().write_all(format!("DID NOT RUN: {why}\n").as_bytes()).unwrap();
    false
}

/// A server that ends with the test, on a port that it chose itself.
#[derive(Debug)]
struct Server {
    child: Child,
    address: String,
}

impl Server {
    async fn start(program: &str, arguments: &[&str], log: &Path) -> Self {
        let arguments = [&["--web.listen-address=127.0.0.1:0"], arguments].concat();
        let child = stack::start_by(&[program], &arguments, None, Stdio::null(), log);
        let address = eventually(&format!("{program} listens, see {log:?}"), START, || async {
            let said = text(log);
            let line = said.lines().find(|it| it.contains("msg=\"Listening on\""))?;
            line.split(' ').find_map(|it| it.strip_prefix("address=")).map(ToOwned::to_owned)
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

/// Keeps what was pushed last under each job.
#[derive(Debug)]
pub struct Pushgateway(Server);

impl Pushgateway {
    /// With its log in the stack's folder.
    pub async fn start(stack: &Stack) -> Self {
        let log = stack.dir.join("pushgateway.log");
        // Debian's has a file of its own, which is the machine's.
        Self(Server::start("prometheus-pushgateway", &["--persistence.file="], &log).await)
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.0.address)
    }

    /// Replaces what it has of a job.
    pub async fn put(&self, job: &str, metrics: String) {
        let request = reqwest::Client::new().put(self.of(job)).body(metrics);
        request.send().await.unwrap().error_for_status().unwrap();
    }

    /// Forgets what it has of a job.
    pub async fn forget(&self, job: &str) {
        let request = reqwest::Client::new().delete(self.of(job));
        request.send().await.unwrap().error_for_status().unwrap();
    }

    fn of(&self, job: &str) -> String {
        format!("{}/metrics/job/{job}", self.url())
    }
}

/// An alert, as the rules have it: two rules may have one name, and differ in
/// the job.
#[derive(Debug, Clone)]
pub struct Alert {
    pub name: String,
    pub firing: bool,
}

/// Scrapes a stack and a gateway, and evaluates rules, once a second.
#[derive(Debug)]
pub struct Prometheus {
    server: Server,
    rules: PathBuf,
}

impl Prometheus {
    /// With its data in the stack's folder.
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
        let started = Self { server, rules: dir.join("rules.yaml") };
        eventually("Prometheus is ready", START, || async {
            let answer = reqwest::get(started.at("/-/ready")).await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
        started
    }

    fn at(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.address)
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let url = Url::parse_with_params(&self.at(path), query).unwrap();
        let answer: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
        assert_eq!(answer["status"], "success", "{query:?}: {answer:#}");
        answer["data"].clone()
    }

    /// Goes on with other rules.
    pub async fn replace_rules(&self, rules: &str) {
        fs::write(&self.rules, rules).unwrap();
        let request = reqwest::Client::new().post(self.at("/-/reload"));
        request.send().await.unwrap().error_for_status().unwrap();
    }

    /// The one value of an expression, if it has one now.
    pub async fn value(&self, expression: &str) -> Option<f64> {
        let data = self.get("/api/v1/query", &[("query", expression)]).await;
        data["result"][0]["value"][1].as_str().map(|it| it.parse().unwrap())
    }

    /// Whether every target answered, and every rule was evaluated.
    pub async fn sees_all(&self) -> bool {
        let targets = self.get("/api/v1/targets", &[]).await;
        let up = targets["activeTargets"].as_array().unwrap().iter().all(|it| it["health"] == "up");
        up && self.rules().await.iter().all(|it| it["health"] == "ok")
    }

    /// Every alert of the rules; panics if a rule or a text can't be evaluated.
    pub async fn alerts(&self) -> Vec<Alert> {
        let rules = self.rules().await;
        let alerts = rules.iter().filter(|it| it["type"] == "alerting");
        let alert = |rule: &Value| {
            let job = rule["labels"]["job"].as_str().map(|it| format!(" {it}")).unwrap_or_default();
            let name = format!("{}{job}", rule["name"].as_str().unwrap());
            // Templates that fail say so in their text.
            assert!(!rule["alerts"].to_string().contains("<error"), "{rule:#}");
            Alert { name, firing: rule["state"] == "firing" }
        };
        alerts.map(alert).collect()
    }

    async fn rules(&self) -> Vec<Value> {
        let data = self.get("/api/v1/rules", &[]).await;
        let groups = data["groups"].as_array().unwrap().iter();
        let rules: Vec<_> = groups.flat_map(|it| it["rules"].as_array().unwrap().clone()).collect();
        let failed = rules.iter().find(|it| it["health"] == "err");
        assert!(failed.is_none(), "{failed:#?}");
        rules
    }
}

/// As deploy/observability/README.md asks of whoever scrapes. A replica is known
/// by its name rather than by a port.
fn configuration(stack: &Stack, gateway: &Pushgateway) -> Value {
    let file = stack.file();
    let job = |service: &str| {
        let replicas = file.processes.iter().filter(|it| it.name.starts_with(service));
        let target = |it: &devstack::Process| {
            let admin = it.admin.as_deref().unwrap().trim_start_matches("http://");
            json!({ "targets": [admin], "labels": { "instance": it.name } })
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
            {
                "job_name": "pushgateway",
                "honor_labels": true,
                "static_configs": [{ "targets": [gateway.0.address] }],
            },
        ],
    })
}
