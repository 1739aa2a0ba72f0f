//! The alerts about reports. The renderer and the receiver of alerts are in the test.

use std::{
    fs::{self, File},
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, SystemTime},
};

use axum::{Router, extract::State, http::StatusCode, response::Response};
use devstack::Fault;
use reqwest::Method;
use sqlx::AssertSqlSafe;
use tests::{Client, Stack, client::new_key, eventually, stack::initialized_folder};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::{Monitored, SOON};
use crate::reports::statement;

/// The lease is a little shorter. Long enough that no lease ends by itself on a slow machine,
/// because lost attempts are counted. `doctor` compares the consumer with the same setting.
pub(super) const ACK_WAIT: (&str, &str) = ("PASSBOOK_REPORT_ACK_WAIT", "5s");
/// No answer: the connection stays open.
const SILENT: u16 = 0;

/// An HTTP server with one answer.
struct Endpoint {
    url: String,
    status: Arc<AtomicU16>,
    _server: AbortOnDropHandle<()>,
}

impl Endpoint {
    async fn start() -> Self {
        let status = Arc::new(AtomicU16::new(200));
        let router = Router::new().fallback(answer).with_state(Arc::clone(&status));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let server = tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
        Self { url, status, _server: AbortOnDropHandle::new(server) }
    }

    fn answer(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }
}

async fn answer(State(status): State<Arc<AtomicU16>>) -> Response {
    let status = status.load(Ordering::Relaxed);
    if status == SILENT {
        return std::future::pending().await;
    }
    let response = Response::builder().status(StatusCode::from_u16(status).unwrap());
    response.header("content-type", "text/csv").body("file".into()).unwrap()
}

/// The outside of the report-service.
pub(super) struct Outside {
    renderer: Endpoint,
    receiver: Endpoint,
}

impl Outside {
    pub(super) async fn start() -> Self {
        Self { renderer: Endpoint::start().await, receiver: Endpoint::start().await }
    }

    /// A stack with fault injection, one report-service, two webhook-services and short times.
    pub(super) async fn start_stack(&self) -> Stack {
        let settings = [
            format!("PASSBOOK_REPORT_RENDERER_URL={}", self.renderer.url),
            format!("PASSBOOK_REPORT_ALERT_WEBHOOK_URL={}", self.receiver.url),
            format!("{}={}", ACK_WAIT.0, ACK_WAIT.1),
            "PASSBOOK_REPORT_RETRY_DELAY=50ms".to_owned(),
            "PASSBOOK_REPORT_CLEANUP_EVERY=1s".to_owned(),
            // For a backlog that is large enough for its alert, and small enough for the redrive.
            "PASSBOOK_MESSAGE_PARTS=1".to_owned(),
            "PASSBOOK_WORKER_BATCH=100".to_owned(),
        ];
        let arguments =
            ["--port", "0", "--faults", "--report-replicas", "1", "--webhook-replicas", "2"];
        Stack::start_under(&initialized_folder("alerts").await, &settings, &arguments).await
    }
}

async fn ask(client: &Client, account: &str) -> String {
    let accepted = client.report(&statement(account, &["csv"]), 0).await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    accepted.text("reportId").to_owned()
}

pub(super) async fn a_report_succeeds(client: &Client, account: &str) {
    let report = client.report(&statement(account, &["csv"]), 30).await;
    assert_eq!(report.text("state"), "SUCCEEDED", "{report:?}");
}

pub(super) async fn failed_reports(monitored: &mut Monitored, client: &Client, account: &str) {
    const ALERTS: [&str; 3] =
        ["PassbookReportFailed", "PassbookReportAlertNotTaken", "PassbookReportRendererFailing"];
    monitored.resolved(&ALERTS).await;
    monitored.outside.renderer.answer(500);
    monitored.outside.receiver.answer(500);
    let report = ask(client, account).await;
    let ended = client.report_ended(&report, SOON).await;
    assert_eq!(ended.text("state"), "FAILED", "{ended:?}");
    monitored.fire(&ALERTS).await;
    monitored.outside.renderer.answer(200);
    monitored.outside.receiver.answer(200);
    monitored.discard_dead_letters().await;
}

pub(super) async fn blocked_reports(monitored: &mut Monitored, client: &Client, account: &str) {
    const SLOW: [&str; 2] = ["PassbookReportRunningLong", "PassbookReportsQueuedTooLong"];
    const LOST: [&str; 1] = ["PassbookReportAttemptsLost"];
    monitored.resolved(&SLOW).await;
    monitored.outside.renderer.answer(SILENT);
    let reports = [ask(client, account).await, ask(client, account).await];
    monitored.fire(&SLOW).await;

    monitored.resolved(&LOST).await;
    for _ in 0..3 {
        // An attempt that still reads its figures would fail with the connection, not be lost.
        rows(monitored, "reports WHERE state = 'RUNNING' AND step = 'render csv'", 1).await;
        let lost = count(monitored, "report_attempts WHERE outcome = 'LOST'").await;
        monitored.stack.fault("report-service-0/postgres", Fault::Refuse).await;
        rows(monitored, "reports WHERE state = 'RUNNING' AND lease_until < clock_timestamp()", 1)
            .await;
        monitored.stack.fault("report-service-0/postgres", Fault::Pass).await;
        eventually("one more attempt is lost", SOON, || async {
            let now = count(monitored, "report_attempts WHERE outcome = 'LOST'").await;
            (now > lost).then_some(())
        })
        .await;
    }
    monitored.fire(&LOST).await;
    for report in reports {
        let path = format!("/v1/reports/{report}/cancel");
        let key = new_key();
        let response = client.send(Method::POST, &path, &[("idempotency-key", &key)], None).await;
        assert_eq!(response.unwrap().status, 202);
    }
    monitored.outside.renderer.answer(200);
    monitored.healthy().await;
}

/// Waits until the report database has this number of rows.
async fn rows(monitored: &Monitored, from: &'static str, number: i64) {
    eventually(&format!("{number} rows: {from}"), SOON, || async {
        (count(monitored, from).await == number).then_some(())
    })
    .await;
}

async fn count(monitored: &Monitored, from: &'static str) -> i64 {
    let count = AssertSqlSafe(format!("SELECT count(*) FROM {from}"));
    sqlx::query_scalar(count).fetch_one(&monitored.stack.reports().await).await.unwrap()
}

pub(super) async fn orphaned_files(monitored: &mut Monitored) {
    const ALERTS: [&str; 1] = ["PassbookReportOrphans"];
    monitored.resolved(&ALERTS).await;
    let folder = monitored.stack.dir.join("artifacts").join(new_key()).join("1");
    fs::create_dir_all(&folder).unwrap();
    let old = SystemTime::now() - Duration::from_secs(3600);
    for number in 0..25 {
        let file = File::create(folder.join(format!("{number}.csv"))).unwrap();
        file.set_modified(old).unwrap();
    }
    monitored.fire(&ALERTS).await;
}
