//! Crashes of the report-service between any two effects: whatever is left, the report
//! ends SUCCEEDED, with one set of files.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;
use tests::{Client, Stack, broker, eventually, stack, wait::eventually_now};

use super::statement;

/// Covers a restart, a redelivery and another attempt on a slow machine.
const WITHIN: Duration = Duration::from_secs(60);

/// The points in the order in which a report passes them, and whether a crash there
/// costs an attempt. After the first message is sent, the worker of the same process may
/// have begun: `None`.
const POINTS: [(&str, Option<bool>); 13] = [
    ("publish.begun", Some(false)),
    ("publish.sent", None),
    ("publish.acknowledged", None),
    ("job.fetched", Some(false)),
    ("report.claiming", Some(false)),
    ("report.claimed", Some(true)),
    ("report.begun", Some(true)),
    ("report.read", Some(true)),
    ("report.file-stored", Some(true)),
    ("report.stored", Some(true)),
    ("report.succeeding", Some(true)),
    ("report.succeeded", Some(false)),
    ("job.decided", Some(false)),
];

struct Armed(PathBuf);

impl Armed {
    /// Arms a point for the next process that passes it.
    fn arm(&self, point: &str) {
        let file = self.0.join("new").join(point);
        fs::write(&file, "").unwrap();
        fs::create_dir_all(self.0.join(point)).unwrap();
        fs::rename(file, self.0.join(point).join(point)).unwrap();
    }

    /// Waits until a process has crashed at this point.
    async fn reached(&self, point: &str) {
        let pid = eventually_now(&format!("a process reaches {point}"), WITHIN, || {
            let reached = fs::read_dir(self.0.join("reached")).unwrap().flatten();
            let mut names = reached.map(|file| file.file_name().to_string_lossy().into_owned());
            names.find_map(|name| Some(name.strip_prefix(&format!("{point}."))?.to_owned()))
        })
        .await;
        eventually_now(&format!("the process crashes at {point}"), WITHIN, || {
            (!Path::new("/proc").join(&pid).exists()).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_report_is_made_once_through_a_crash_at_any_point() {
    let armed = Armed(stack::folder("report-crash-points"));
    for part in ["new", "reached"] {
        fs::create_dir_all(armed.0.join(part)).unwrap();
    }
    let settings = ["PASSBOOK_REPORT_ACK_WAIT=3s", "PASSBOOK_REPORT_RETRY_DELAY=250ms"];
    let settings: Vec<_> = settings.map(str::to_owned).to_vec();
    let points = ["--crash-points", armed.0.to_str().unwrap()];
    let stack = Stack::start_reports_with("report-crash-points-stack", 1, &settings, &points).await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    client.deposit(&account, "100").await;
    let jetstream = broker::connect(&stack).await;
    let reports = stack.reports().await;
    for (point, costs_an_attempt) in POINTS {
        stack.replica_ready("report-service-0").await;
        armed.arm(point);
        let id = sqlx::types::Uuid::now_v7().to_string();
        let request = statement(&account, &["csv", "json"]);
        let headers = [("idempotency-key", id.as_str())];
        // The proxy answers 503 until it has seen the process ready.
        let accepted = || async {
            let response = client.post("/v1/reports", &headers, &request).await;
            (response.status != 503).then_some(response)
        };
        // The process can crash before it answers: the row is committed.
        let _ = eventually("the request is carried out", WITHIN, accepted).await;
        armed.reached(point).await;
        let again = eventually("the request is answered", WITHIN, accepted).await;
        assert_eq!(again.status, 202, "{point}: {again:?}");
        let report = client.report_ended(again.text("reportId"), WITHIN).await;
        assert_eq!(report.text("state"), "SUCCEEDED", "{point}: {report:?}");
        let attempts = report.body["attempts"].as_array().unwrap().iter();
        let found: Vec<_> = attempts.map(|attempt| attempt["outcome"].as_str().unwrap()).collect();
        let lost = found == ["LOST", "SUCCEEDED"];
        assert!(lost || found == ["SUCCEEDED"], "{point}: {found:?}");
        assert_eq!(costs_an_attempt.unwrap_or(lost), lost, "{point}: {found:?}");
        assert_eq!(report.body["artifacts"].as_array().map(Vec::len), Some(2), "{point}");
        let last = found.len().to_string();
        let paths: Vec<String> =
            sqlx::query_scalar("SELECT path FROM report_artifacts WHERE report_id = $1::uuid")
                .bind(again.text("reportId"))
                .fetch_all(&reports)
                .await
                .unwrap();
        assert!(
            paths.iter().all(|path| path.split('/').nth(1) == Some(&last)),
            "{point}: {paths:?}"
        );
    }
    broker::stream_holds(&jetstream, "job", 0, WITHIN).await;
    let open: Vec<Value> =
        sqlx::query_scalar("SELECT to_jsonb(r) FROM reports r WHERE ended_at IS NULL")
            .fetch_all(&reports)
            .await
            .unwrap();
    assert!(open.is_empty(), "{open:?}");
}
