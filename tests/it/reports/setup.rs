//! A stack whose renderer and alert receiver are in the test.

use std::{path::Path, time::Duration};

use runtime::postgres::PgPool;
use serde_json::Value;
use sqlx::AssertSqlSafe;
use tests::{
    Client, Response, Stack, eventually, scale, small_disk::start_with_small_storage,
    stack::initialized_folder,
};

use super::{
    renderer::{AlertReceiver, Call, Renderer},
    statement,
};

/// The longest wait for an attempt, an end, or a clean-up.
pub(super) fn limit() -> Duration {
    Duration::from_secs(scale::size(240, 40))
}

/// A stack with a first retry after 50 ms. A lease takes 2.5 seconds; at full size 25, the
/// default.
pub(super) struct Setup {
    pub(super) renderer: Renderer,
    pub(super) alerts: AlertReceiver,
    pub(super) stack: Stack,
    pub(super) client: Client,
    pub(super) reports: PgPool,
}

impl Setup {
    /// `refused_alerts`: how many alerts the receiver refuses before it takes one. `more` are
    /// settings as `NAME=value`.
    pub(super) async fn start(
        name: &str,
        replicas: u16,
        refused_alerts: usize,
        more: &[&str],
    ) -> Self {
        let start = async |settings: Vec<String>| {
            Some(Stack::start_reports(name, replicas, &settings).await)
        };
        Self::start_by(refused_alerts, more, start).await.unwrap()
    }

    /// Two replicas, with fault injection.
    pub(super) async fn start_with_faults(name: &str) -> Self {
        let start = async |settings: Vec<String>| {
            let arguments = ["--port", "0", "--report-replicas", "2", "--faults"];
            Some(Stack::start_under(&initialized_folder(name).await, &settings, &arguments).await)
        };
        Self::start_by(0, &[], start).await.unwrap()
    }

    /// One replica with a storage of 4 MB. `None` where this user may not mount a disk.
    pub(super) async fn start_on_small_storage(name: &str) -> Option<Self> {
        let start = async |settings: Vec<String>| start_with_small_storage(name, &settings).await;
        Self::start_by(0, &[], start).await
    }

    async fn start_by(
        refused_alerts: usize,
        more: &[&str],
        start: impl AsyncFnOnce(Vec<String>) -> Option<Stack>,
    ) -> Option<Self> {
        let renderer = Renderer::start().await;
        let alerts = AlertReceiver::start(refused_alerts).await;
        let mut settings = vec![
            renderer.setting(),
            alerts.setting(),
            format!("PASSBOOK_REPORT_ACK_WAIT={}", scale::size("30s", "3s")),
            "PASSBOOK_REPORT_RETRY_DELAY=50ms".to_owned(),
        ];
        settings.extend(more.iter().map(|&setting| setting.to_owned()));
        let stack = start(settings).await?;
        let (client, reports) = (Client::teller(&stack), stack.reports().await);
        Some(Self { renderer, alerts, stack, client, reports })
    }

    /// Asks for a statement as CSV. Gives the report's id.
    pub(super) async fn ask(&self) -> String {
        self.ask_for(&["csv"]).await
    }

    pub(super) async fn ask_for(&self, formats: &[&str]) -> String {
        let request = statement(&self.client.open_account("USD").await, formats);
        let accepted = self.client.report(&request, 0).await;
        assert_eq!(accepted.status, 202, "{accepted:?}");
        accepted.text("reportId").to_owned()
    }

    /// Waits until the renderer has got a request that fits.
    pub(super) async fn called(&self, what: &str, fits: impl Fn(&Call) -> bool) {
        eventually(&format!("the renderer is called: {what}"), limit(), || async {
            self.renderer.calls().iter().any(&fits).then_some(())
        })
        .await;
    }

    /// Waits until this attempt is in the renderer. Gives the process id of its worker.
    pub(super) async fn attempt_runs(&self, report: &str, attempt: i32) -> u32 {
        let number = u64::try_from(attempt).unwrap();
        self.called(&format!("attempt {attempt}"), |call| {
            call.report == report && call.attempt == number
        })
        .await;
        let worker: String = sqlx::query_scalar(
            "SELECT worker FROM report_attempts WHERE report_id::text = $1 AND number = $2",
        )
        .bind(report)
        .bind(attempt)
        .fetch_one(&self.reports)
        .await
        .unwrap();
        worker.rsplit('/').next().unwrap().parse().unwrap()
    }

    /// Waits until the report has ended, and gives it.
    pub(super) async fn ended(&self, report: &str) -> Response {
        self.client.report_ended(report, limit()).await
    }

    /// The number of rows of this statement.
    pub(super) async fn count(&self, from: &'static str) -> i64 {
        let count = format!("SELECT count(*) FROM {from}");
        eventually("the database answers", limit(), async || {
            // A connection that was in use just now may belong to a server that has ended.
            let count = sqlx::query_scalar::<_, i64>(AssertSqlSafe(count.clone()));
            count.fetch_one(&self.reports).await.ok()
        })
        .await
    }

    /// The files of a report in the storage, as `<attempt>/<name>`.
    pub(super) fn files(&self, report: &str) -> Vec<String> {
        files_below(&self.stack.dir.join("artifacts").join(report))
    }

    /// The CSV file as a client downloads it.
    pub(super) async fn csv(&self, report: &str) -> String {
        let file = self.client.get(&format!("/v1/reports/{report}/artifacts/csv")).await;
        assert_eq!(file.status, 200, "{file:?}");
        String::from_utf8(file.bytes).unwrap()
    }
}

/// The files two levels below a folder.
fn files_below(folder: &Path) -> Vec<String> {
    let entries = |folder: &Path| {
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
    };
    let files = entries(folder).into_iter().flat_map(|attempt| entries(&attempt));
    files.map(|file| file.strip_prefix(folder).unwrap().display().to_string()).collect()
}

/// The outcomes of a report's attempts.
pub(super) fn outcomes(report: &Response) -> Vec<&str> {
    let attempts = report.body["attempts"].as_array().unwrap();
    attempts.iter().map(|attempt| attempt["outcome"].as_str().unwrap_or("none")).collect()
}

/// The errors of a report's attempts.
pub(super) fn errors(report: &Response) -> Vec<&Value> {
    let attempts = report.body["attempts"].as_array().unwrap();
    attempts.iter().map(|attempt| &attempt["error"]).collect()
}
