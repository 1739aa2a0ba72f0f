//! `passbook verify` and `passbook doctor` find planted defects of reports.

use std::{
    fs::File,
    time::{Duration, SystemTime},
};

use runtime::postgres::PgPool;
use serde_json::Value;
use sqlx::AssertSqlSafe;
use tests::{Client, Stack, broker, client::new_key, process, process::Paused};

use super::{statement, used_account};

/// Two SUCCEEDED reports of two files each, on a stack whose report-service is paused since.
struct Finished {
    /// Dropped before the stack: a stopped process can't exit.
    _paused: Paused,
    stack: Stack,
    reports: PgPool,
    /// The reports' ids.
    first: String,
    second: String,
}

impl Finished {
    async fn start(name: &str) -> Self {
        let stack = Stack::start_reports(name, 1, &[]).await;
        let client = Client::teller(&stack);
        let account = used_account(&client).await;
        let mut ids = Vec::new();
        for _ in 0..2 {
            let report = client.report(&statement(&account, &["csv", "json"]), 30).await;
            assert_eq!(report.text("state"), "SUCCEEDED", "{report:?}");
            ids.push(report.text("reportId").to_owned());
        }
        let (second, first) = (ids.pop().unwrap(), ids.pop().unwrap());
        // The service would repair some of the defects.
        let paused = Paused::new([stack.pid("report-service-0")]);
        let reports = stack.reports().await;
        Self { stack, reports, first, second, _paused: paused }
    }

    /// Runs statements, in which `@` and `#` are the two reports.
    async fn execute(&self, statements: &str) {
        let text = statements
            .replace('@', &format!("'{}'", self.first))
            .replace('#', &format!("'{}'", self.second));
        let done = sqlx::raw_sql(AssertSqlSafe(text)).execute(&self.reports).await;
        done.unwrap_or_else(|error| panic!("{statements}: {error}"));
    }

    async fn run(&self, arguments: &[&str], settings: &[(&str, &str)]) -> (i32, Value) {
        let dir = ["--dir", self.stack.dir.to_str().unwrap(), "-o", "json"];
        let output = process::run_with(&[arguments, &dir].concat(), settings).await;
        let json = serde_json::from_slice(&output.stdout);
        (output.status.code().unwrap(), json.unwrap_or_else(|_| panic!("{output:?}")))
    }

    async fn verify(&self) -> (i32, Value) {
        self.run(&["verify", "--pending-limit", "1s"], &[]).await
    }
}

#[tokio::test]
async fn each_broken_invariant_of_reports_is_found() {
    let finished = Finished::start("report-verify").await;
    let (code, clean) = finished.verify().await;
    assert_eq!(code, 0, "{clean:#}");
    for (check, compared) in
        [("clear", 2), ("complete", 2), ("alone", 2), ("alerted", 0), ("woken", 0)]
    {
        assert_eq!(clean[check]["compared"], Value::from(compared), "{check}: {clean:#}");
    }
    finished
        .execute(
            "CREATE TABLE kept AS SELECT * FROM reports;
             CREATE TABLE kept_attempts AS SELECT * FROM report_attempts;
             CREATE TABLE kept_artifacts AS SELECT * FROM report_artifacts;
             ALTER TABLE kept DROP COLUMN position;
             ALTER TABLE reports DROP CONSTRAINT reports_state_columns_check,
                 DROP CONSTRAINT reports_state_check",
        )
        .await;
    for (invariant, damage) in [
        ("clear", "UPDATE reports SET state = 'DONE' WHERE id = @"),
        ("clear", "UPDATE reports SET lease_until = now() WHERE id = @"),
        ("clear", "UPDATE reports SET ended_at = NULL WHERE id = @"),
        ("clear", "UPDATE reports SET attempt = 2 WHERE id = @"),
        ("clear", "UPDATE report_attempts SET number = 2 WHERE report_id = @"),
        ("clear", "UPDATE report_attempts SET ended_at = NULL, outcome = NULL WHERE report_id = @"),
        ("clear", "UPDATE reports SET failures = 1 WHERE id = @"),
        ("complete", "DELETE FROM report_artifacts WHERE report_id = @ AND format = 'csv'"),
        ("complete", "UPDATE report_attempts SET outcome = 'FAILED' WHERE report_id = @"),
        ("complete", "UPDATE reports SET state = 'CANCELLED' WHERE id = @"),
        ("complete", "UPDATE report_artifacts SET attempt = 2 WHERE report_id = @"),
        ("complete", "UPDATE report_artifacts SET path = 'x/' || path WHERE report_id = @"),
        (
            "alone",
            "UPDATE report_attempts SET started_at = (SELECT started_at + interval '1 millisecond'
                 FROM report_attempts WHERE report_id = @) WHERE report_id = #",
        ),
        ("alerted", "UPDATE reports SET state = 'FAILED', failures = 5 WHERE id = @"),
        ("alerted", "INSERT INTO report_alerts (report_id, payload) VALUES (@, '{}')"),
        (
            "woken",
            "UPDATE reports SET state = 'QUEUED', ended_at = NULL,
                 not_before = now() - interval '1 minute' WHERE id = @;
             UPDATE report_attempts SET started_at = started_at - interval '1 hour',
                 ended_at = ended_at - interval '1 hour'",
        ),
        ("dated", "UPDATE reports SET created_at = now() + interval '1 hour' WHERE id = @"),
        (
            "woken",
            "UPDATE reports SET state = 'RUNNING', ended_at = NULL, worker = 'w',
                 lease_until = now() - interval '1 minute' WHERE id = @",
        ),
    ] {
        finished.execute(damage).await;
        let (code, report) = finished.verify().await;
        assert_eq!(code, 1, "{damage}: {report:#}");
        let finding = report[invariant]["first"][0].as_str();
        let finding = finding.unwrap_or_else(|| panic!("{damage}: {report:#}"));
        assert!(finding.contains(&finished.first) || finding.contains(&finished.second));
        finished
            .execute(
                "DELETE FROM report_alerts;
                 UPDATE reports r SET state = k.state, attempt = k.attempt, failures = k.failures,
                     ended_at = k.ended_at, lease_until = k.lease_until, worker = k.worker,
                     not_before = k.not_before, created_at = k.created_at
                     FROM kept k WHERE k.id = r.id;
                 DELETE FROM report_attempts;
                 INSERT INTO report_attempts SELECT * FROM kept_attempts;
                 DELETE FROM report_artifacts;
                 INSERT INTO report_artifacts SELECT * FROM kept_artifacts",
            )
            .await;
    }
    let (code, clean) = finished.verify().await;
    assert_eq!(code, 0, "{clean:#}");
}

#[tokio::test]
async fn each_defect_of_reports_is_found_with_advice() {
    let finished = Finished::start("report-doctor").await;
    let storage = format!("file://{}", finished.stack.dir.join("artifacts").display());
    let settings = [("PASSBOOK_REPORT_STORAGE_URL", storage.as_str())];
    // An orphan, and a missing file.
    let orphan = finished.stack.dir.join("artifacts").join(new_key()).join("1");
    std::fs::create_dir_all(&orphan).unwrap();
    let orphan = File::create(orphan.join("statement.csv")).unwrap();
    orphan.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
    let path: String = sqlx::query_scalar("SELECT path FROM report_artifacts LIMIT 1")
        .fetch_one(&finished.reports)
        .await
        .unwrap();
    std::fs::remove_file(finished.stack.dir.join("artifacts").join(path)).unwrap();
    // A queue that stands still, an alert and a dead letter that wait.
    finished
        .execute(
            "UPDATE report_attempts SET started_at = started_at - interval '1 hour',
                 ended_at = ended_at - interval '1 hour';
             UPDATE reports SET state = 'QUEUED', ended_at = NULL,
                 not_before = now() - interval '5 minutes' WHERE id = @;
             INSERT INTO report_alerts (report_id, payload, last_error, created_at)
                 VALUES (#, '{}', 'the receiver answers 500', now() - interval '5 minutes')",
        )
        .await;
    // A limit that is not configured.
    let jetstream = broker::connect(&finished.stack).await;
    let stream = jetstream.get_stream("job").await.unwrap();
    let info = stream.consumer_info("job_cons").await.unwrap();
    let changed = async_nats::jetstream::consumer::pull::Config {
        durable_name: Some("job_cons".to_owned()),
        ack_policy: info.config.ack_policy,
        filter_subject: info.config.filter_subject,
        max_ack_pending: 1,
        max_deliver: 7,
        ack_wait: info.config.ack_wait,
        ..Default::default()
    };
    jetstream.create_consumer_on_stream(changed, "job").await.unwrap();

    let (code, checks) = finished.run(&["doctor"], &settings).await;
    assert_eq!(code, 1, "{checks:#}");
    let assert_found = |checks: &Value, check: &str, text: &str| {
        let found = checks.as_array().unwrap().iter().find(|found| {
            found["check"] == check
                && found["state"] == "finding"
                && found["detail"].as_str().unwrap().contains(text)
        });
        let found = found.unwrap_or_else(|| panic!("no finding of {check}: {checks:#}"));
        assert!(found["advice"].as_str().unwrap().len() > 20, "{found}");
    };
    for (check, text) in [
        ("QUEUED reports", "5m"),
        ("report alerts", "answers 500"),
        ("report dead letters", "1"),
        ("files of reports", "missing"),
        ("orphaned files", "statement.csv"),
        ("job_cons", "max_deliver is 7"),
    ] {
        assert_found(&checks, check, text);
    }
    // The same limit is no drift where it is configured.
    let configured = [settings[0], ("PASSBOOK_REPORT_MAX_DELIVER", "7")];
    let (_, checks) = finished.run(&["doctor"], &configured).await;
    let fine = |check: &&Value| check["check"] == "job_cons" && check["state"] == "fine";
    assert!(checks.as_array().unwrap().iter().any(|check| fine(&check)), "{checks:#}");
    // A worker that is away.
    finished
        .execute(
            "UPDATE reports SET state = 'RUNNING', worker = 'host/1',
                 lease_until = now() - interval '5 minutes' WHERE id = @",
        )
        .await;
    let (_, checks) = finished.run(&["doctor"], &settings).await;
    assert_found(&checks, "RUNNING reports", "host/1");
}
