//! Statements whose labels come from an asynchronous standby of the account database.

use serde_json::json;
use tests::{Client, Stack, Standby, client::new_key, eventually, process::Paused};

use super::{
    own_replica::{OwnReplica, settings},
    setup::{errors, limit, outcomes},
    statement,
};

const ACCOUNTS_URL: &str = "PASSBOOK_REPORT_ACCOUNTS_URL";

/// A deposit that is settled.
async fn deposit(client: &Client, account: &str, reference: &str) {
    let path = format!("/v1/accounts/{account}/deposits");
    let body = json!({ "amount": "1", "reference": reference, "description": "of a standby" });
    let key = new_key();
    let headers = [("idempotency-key", key.as_str()), ("prefer", "wait=20")];
    let settled = client.post(&path, &headers, &body).await;
    assert_eq!((settled.status, settled.text("status")), (200, "SUCCESS"), "{settled:?}");
}

/// The statement would have other bytes later, without the movement's labels.
#[tokio::test]
async fn a_statement_waits_for_a_standby_that_lacks_a_record() {
    let more = ["PASSBOOK_REPORT_ACK_WAIT=3s".to_owned()];
    let stack = Stack::start_reports("report-standby", 1, &more).await;
    let client = Client::teller(&stack);
    let account = client.open_account("USD").await;
    deposit(&client, &account, "replayed").await;
    let standby = Standby::start(&stack).await;
    standby.has_caught_up(&stack).await;
    standby.stops_replaying(&stack).await;
    deposit(&client, &account, "not replayed").await;

    let settings = settings(&stack, "report-service");
    let (_, primary) = settings.iter().find(|(name, _)| name == ACCOUNTS_URL).unwrap();
    let url = standby.url_of(primary);
    let more = [(ACCOUNTS_URL, url.as_str()), ("PASSBOOK_REPORT_RETRY_DELAY", "1s")];
    let replica = OwnReplica::start(&stack, "with-a-standby.log", &more);
    eventually("the replica with a standby is ready", limit(), || async {
        replica.is_ready().await.then_some(())
    })
    .await;
    let _frozen = Paused::new([stack.pid("report-service-0")]);
    let at = replica.client(&stack);
    let accepted = at.report(&statement(&account, &["csv"]), 0).await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    let path = format!("/v1/reports/{}", accepted.text("reportId"));
    let failed = eventually("the first attempt fails", limit(), || async {
        let report = at.get(&path).await;
        outcomes(&report).contains(&"FAILED").then_some(report)
    })
    .await;
    let error = errors(&failed)[0].to_string();
    assert!(error.contains("the standby of the account database does not have record"), "{error}");
    standby.replays_again(&stack).await;

    let report = at.report_ended(accepted.text("reportId"), limit()).await;
    assert_eq!(report.text("state"), "SUCCEEDED", "{report:?}");
    let file = at.get(&format!("{path}/artifacts/csv")).await;
    let csv = String::from_utf8(file.bytes).unwrap();
    for reference in ["replayed", "not replayed"] {
        let rows = csv.lines().filter(|row| row.contains(&format!(",{reference},"))).count();
        assert_eq!(rows, 1, "{reference}: {csv}");
    }
}
