//! Failures that no other attempt can change: whom they are told.

use std::time::Duration;

use serde_json::{Value, json};
use tests::{Client, broker, eventually};

use super::{
    access::INTERNAL,
    setup::{Setup, errors, limit, outcomes},
    statement,
};

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_contradiction_in_the_ledger_fails_a_report_at_once_and_alerts_its_operator() {
    let setup = Setup::start("report-contradiction", 1, 0, &[]).await;
    let ann = Client::customer(&setup.stack, "ann");
    let account = ann.open_account("USD").await;
    for amount in ["5", "6"] {
        setup.client.deposit(&account, amount).await;
    }
    let changed = sqlx::query(
        "UPDATE transactions SET amount = 7 WHERE account_id::text = $1 AND account_seq = 2",
    )
    .bind(&account)
    .execute(&setup.stack.ledger().await)
    .await
    .unwrap();
    assert_eq!(changed.rows_affected(), 1);

    let accepted = ann.report(&statement(&account, &["csv"]), 0).await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    let report = accepted.text("reportId").to_owned();
    let ended = setup.ended(&report).await;
    assert_eq!((ended.text("state"), outcomes(&ended)), ("FAILED", vec!["FAILED"]));
    let error = errors(&ended)[0].as_str().unwrap();
    assert!(error.contains("the entries give"), "{error}");
    // The cause is not the customer's matter.
    let shown = ann.get(&format!("/v1/reports/{report}")).await;
    assert_eq!(shown.text("error"), INTERNAL, "{shown:?}");

    // The alert, and the dead letter of the same row.
    let alert = eventually("the alert is taken", limit(), || async {
        setup.alerts.taken().into_iter().next()
    })
    .await;
    let told = (&alert["reportId"], &alert["failures"], &alert["error"]);
    assert_eq!(told, (&json!(report), &json!(1), &json!(error)), "{alert:#}");
    assert!(alert["text"].as_str().unwrap().contains("failed once"), "{alert:#}");
    let jetstream = broker::connect(&setup.stack).await;
    broker::dead_letter(&jetstream, SOON, |payload| {
        let letter: Value = serde_json::from_slice(payload).unwrap_or_default();
        letter["reportId"] == report.as_str()
    })
    .await;
    assert_eq!(setup.alerts.tries(), 1);
}
