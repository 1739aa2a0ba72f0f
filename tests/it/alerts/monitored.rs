//! A stack monitored by Prometheus, with the rules of `deploy/observability` shortened.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use tests::{
    Stack,
    process::{run, run_with},
    prometheus::{Prometheus, Pushgateway},
    wait,
};
use tokio::time::Instant;

use super::reports::{self, Outside};

pub(super) const SOON: Duration = Duration::from_secs(90);

/// Between two queries. Prometheus evaluates the rules once a second.
pub(super) const INTERVAL: Duration = Duration::from_millis(250);

/// Shorter time windows in the rules. Besides these, only `for`, [`PENDING_THRESHOLD`],
/// [`QUEUED_THRESHOLD`] and [`WEBHOOK_THRESHOLDS`] change.
const SHORT_WINDOWS: [(&str, &str); 10] = [
    ("[2m]", "[10s]"),
    ("[5m]", "[20s]"),
    ("offset 5m", "offset 20s"),
    ("[15m]", "[20s]"),
    ("offset 15m", "offset 20s"),
    ("[10m]", "[30s]"),
    ("[30m]", "[30s]"),
    ("[1h]", "[1m]"),
    ("[6h]", "[30s]"),
    ("[3d]", "[30s]"),
];
/// Two minutes are too long for a test.
const PENDING_THRESHOLD: (&str, &str) = ("oldest_seconds) > 120", "oldest_seconds) > 5");
/// Half an hour as well.
const QUEUED_THRESHOLD: (&str, &str) =
    ("oldest_queued_seconds) > 1800", "oldest_queued_seconds) > 5");
/// Minutes and hours.
const WEBHOOK_THRESHOLDS: [(&str, &str); 2] = [
    ("{reason=\"untried\"}) > 600", "{reason=\"untried\"}) > 5"),
    ("{reason=\"failing\"}) > 12 * 3600", "{reason=\"failing\"}) > 5"),
];
/// No test reaches 80 % of 128 MiB.
pub(super) const MEMORY_THRESHOLD: (&str, &str) = ("0.8 * 128 * 2^20", "0.8 * 1 * 2^20");

pub(super) fn observability() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("deploy/observability")
}

pub(super) fn replace(rules: &str, (old, new): (&str, &str)) -> String {
    assert!(rules.contains(old), "the rules do not contain {old}");
    rules.replace(old, new)
}

fn is_for(line: &str) -> bool {
    line.trim_start().starts_with("for: ")
}

pub(super) fn short_rules() -> String {
    let rules = fs::read_to_string(observability().join("prometheus/rules.yaml")).unwrap();
    // Not zero: a busy machine may miss a scrape.
    let short_for = |line| if is_for(line) { "        for: 3s" } else { line };
    let rules: Vec<_> = rules.lines().map(short_for).collect();
    let thresholds = [&PENDING_THRESHOLD, &QUEUED_THRESHOLD];
    let changes = SHORT_WINDOWS.iter().chain(thresholds).chain(&WEBHOOK_THRESHOLDS);
    changes.fold(rules.join("\n"), |rules, change| replace(&rules, *change))
}

/// A stack monitored by Prometheus.
pub(super) struct Monitored {
    // Dropped before the stack: its data is in the stack's directory.
    pub(super) prometheus: Prometheus,
    pub(super) gateway: Pushgateway,
    pub(super) stack: Stack,
    pub(super) outside: Outside,
    /// The alerts a step of the test has caused.
    pub(super) fired: BTreeSet<String>,
}

impl Monitored {
    pub(super) async fn start() -> Self {
        let outside = Outside::start().await;
        let stack = outside.start_stack().await;
        let gateway = Pushgateway::start(&stack).await;
        let prometheus = Prometheus::start(&stack, &gateway, &short_rules()).await;
        Self { prometheus, gateway, stack, outside, fired: BTreeSet::new() }
    }

    pub(super) async fn firing(&self) -> BTreeSet<String> {
        let alerts = self.prometheus.alerts().await;
        alerts.into_iter().filter(|alert| alert.firing).map(|alert| alert.name).collect()
    }

    /// Polls until the condition holds for the set of firing alerts.
    pub(super) async fn until(&self, what: &str, condition: impl FnMut(&BTreeSet<String>) -> bool) {
        let condition = RefCell::new(condition);
        wait::poll(what, SOON, INTERVAL, || async {
            let firing = self.firing().await;
            let holds = (condition.borrow_mut())(&firing);
            if holds { Ok(()) } else { Err(format!("firing: {firing:?}")) }
        })
        .await;
    }

    /// Waits until none of these alerts fires. Called before their cause, to see that the cause is
    /// what makes them fire.
    pub(super) async fn resolved(&self, alerts: &[&str]) {
        let what = format!("{alerts:?} have ended");
        self.until(&what, |firing| !alerts.iter().any(|alert| firing.contains(*alert))).await;
    }

    /// Waits until each of these alerts has fired. They need not fire at the same time: one may end
    /// before another begins.
    pub(super) async fn fire(&mut self, alerts: &[&str]) {
        let begun = Instant::now();
        let missing = RefCell::new(alerts.to_vec());
        wait::poll("the alerts fire", SOON, INTERVAL, || async {
            let firing = self.firing().await;
            let mut missing = missing.borrow_mut();
            missing.retain(|alert| !firing.contains(*alert));
            if missing.is_empty() { Ok(()) } else { Err(format!("missing: {missing:?}")) }
        })
        .await;
        println!("{:.1?}: {alerts:?}", begun.elapsed());
        self.fired.extend(alerts.iter().map(ToString::to_string));
    }

    /// Waits until Prometheus sees every replica healthy and no record PENDING.
    pub(super) async fn healthy(&self) {
        let ready = "sum(min by (job, instance) (passbook_condition_up)) \
                     - max(passbook_records_pending)";
        self.has_value("the system is healthy", ready, |value| value == 7.0).await;
    }

    /// Waits until the expression has a value for which the condition holds.
    pub(super) async fn has_value(
        &self,
        what: &str,
        expression: &str,
        condition: impl Fn(f64) -> bool,
    ) {
        wait::poll(what, SOON, INTERVAL, || async {
            let value = self.prometheus.value(expression).await;
            if value.is_some_and(&condition) { Ok(()) } else { Err(format!("{value:?}")) }
        })
        .await;
    }

    pub(super) async fn push(&self, command: &str) {
        let dir = self.stack.dir.to_str().unwrap();
        let gateway = self.gateway.url();
        let settings = [("PASSBOOK_PUSHGATEWAY_URL", gateway.as_str()), reports::ACK_WAIT];
        let output = run_with(&[command, "--dir", dir], &settings).await;
        // 1 means a finding.
        assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
    }

    pub(super) async fn discard_dead_letters(&self) {
        let dir = self.stack.dir.to_str().unwrap();
        let discard = ["dlq", "discard", "--all", "--yes", "--reason", "the test's own"];
        let output = run(&[&discard[..], &["--dir", dir]].concat()).await;
        assert!(output.status.success(), "{output:?}");
    }

    pub(super) async fn verify_and_doctor(&self) {
        self.push("verify").await;
        self.push("doctor").await;
    }
}
