//! The same statement has the same bytes and signatures: made twice, by another
//! replica, and a day later.

use std::time::{Duration, SystemTime};

use runtime::postgres::PgPool;
use serde_json::Value;
use tests::{Client, Stack, process::Paused};
use time::{OffsetDateTime, format_description::well_known::Rfc2822};

use super::{FORMATS, own_replica::OwnReplica, statement, used_account};

/// A statement of all formats, as its files and their signatures, and its worker.
struct Made {
    files: Vec<(Vec<u8>, Value)>,
    worker: String,
}

async fn make(client: &Client, reports: &PgPool, request: &Value) -> Made {
    let report = client.report(request, 30).await;
    assert_eq!((report.status, report.text("state")), (200, "SUCCEEDED"), "{report:?}");
    let id = report.text("reportId");
    let mut files = Vec::new();
    for format in FORMATS {
        let path = format!("/v1/reports/{id}/artifacts/{format}");
        let file = client.get(&path).await;
        assert_eq!(file.status, 200, "{file:?}");
        let signature = client.get(&format!("{path}.sig")).await;
        assert_eq!(signature.body["algorithm"], "Ed25519", "{signature:?}");
        files.push((file.bytes, signature.body));
    }
    let worker = "SELECT worker FROM report_attempts
                  WHERE report_id::text = $1 AND outcome = 'SUCCEEDED'";
    let worker = sqlx::query_scalar(worker).bind(id).fetch_one(reports).await.unwrap();
    Made { files, worker }
}

fn assert_same(one: &Made, other: &Made) {
    for (format, (one, other)) in FORMATS.iter().zip(one.files.iter().zip(&other.files)) {
        assert!(one.0 == other.0, "the bytes of {format} differ");
        assert_eq!(one.1, other.1, "the signatures of {format}");
    }
}

fn is_of(made: &Made, pid: u32) -> bool {
    made.worker.ends_with(&format!("/{pid}"))
}

#[tokio::test]
async fn the_same_statement_has_the_same_bytes_and_signatures_anywhere_and_a_day_later() {
    let settings = ["PASSBOOK_REPORT_ACK_WAIT=3s".to_owned()];
    let stack = Stack::start_reports("report-same-bytes", 2, &settings).await;
    let (client, reports) = (Client::teller(&stack), stack.reports().await);
    let request = statement(&used_account(&client).await, &FORMATS);
    let pids = [0, 1].map(|number| stack.pid(&format!("report-service-{number}")));

    // The other replica is frozen meanwhile.
    let mut made = Vec::new();
    for (number, frozen) in [(0, 1), (0, 1), (1, 0)] {
        let paused = Paused::new([pids[frozen]]);
        let at = Client::teller_at(&stack, &format!("report-service-{number}"));
        made.push(make(&at, &reports, &request).await);
        drop(paused);
        assert!(is_of(&made[made.len() - 1], pids[number]), "{}", made[made.len() - 1].worker);
    }
    let _paused = Paused::new(pids);
    let tomorrow = OwnReplica::start_a_day_ahead(&stack).await;
    let at = tomorrow.client(&stack);
    made.push(make(&at, &reports, &request).await);
    assert!(is_of(&made[3], tomorrow.child.id()), "{}", made[3].worker);
    let key = at.get("/v1/reports/signing-key").await;
    let date = OffsetDateTime::parse(key.header("date").unwrap(), &Rfc2822).unwrap();
    let ahead = date - OffsetDateTime::from(SystemTime::now());
    assert!(ahead > Duration::from_secs(23 * 3600), "its clock is only {ahead} ahead");
    assert!(key.text("publicKey").starts_with("-----BEGIN PUBLIC KEY-----"), "{key:?}");

    assert_ne!(made[0].worker, made[2].worker);
    for other in &made[1..] {
        assert_same(&made[0], other);
    }
}
