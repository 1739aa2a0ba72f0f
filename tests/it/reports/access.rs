//! Who may see a report, and how much of it.

use axum::http::StatusCode;
use contract::{Scope, Scopes};
use serde_json::{Value, json};
use tests::{Client, client::new_key};

use super::{
    renderer::{AT_ONCE, Answer, DETAIL},
    setup::{Setup, errors, outcomes},
    statement,
};

/// What a customer reads about an error inside the service.
pub(super) const INTERNAL: &str = "An error inside the service. Its operator can see the cause.";

#[tokio::test]
async fn a_token_without_accounts_any_reaches_no_report_of_others_that_its_user_asked_for() {
    let setup = Setup::start("report-access", 1, 0, &[]).await;
    let staff = Scope::ALL.into_iter().filter(|scope| *scope != Scope::Admin);
    let before = Client::user(&setup.stack, "nora", staff.collect());
    let after = Client::user(&setup.stack, "nora", Scopes::customer());
    let ann = Client::customer(&setup.stack, "ann");
    let asked = async |client: &Client, request: &Value| {
        let report = client.report(request, 0).await;
        assert_eq!(report.status, 202, "{report:?}");
        report.text("reportId").to_owned()
    };
    let own = statement(&after.open_account("USD").await, &["csv"]);
    let own = asked(&before, &own).await;
    let reconciliation = json!({ "kind": "reconciliation" });
    let activity = json!({ "kind": "activity", "from": "2026-11-01", "to": "2026-11-02" });
    let of_ann = statement(&ann.open_account("USD").await, &["pdf"]);
    let mut foreign = Vec::new();
    for request in [&reconciliation, &activity, &of_ann] {
        foreign.push(asked(&before, request).await);
    }
    for report in foreign.iter().chain([&own]) {
        assert_eq!(setup.ended(report).await.text("state"), "SUCCEEDED");
    }
    setup.renderer.answer(|_| Answer::Nothing);
    let held = setup.ask().await;
    let cancelled = asked(&before, &reconciliation).await;
    let ended = before.post(&format!("/v1/reports/{cancelled}/cancel"), &[], &json!({})).await;
    assert_eq!(ended.text("state"), "CANCELLED", "{ended:?}");
    foreign.push(cancelled);
    let reports = setup.count("reports").await;

    for report in &foreign {
        let path = format!("/v1/reports/{report}");
        for path in [path.clone(), format!("{path}/artifacts/pdf")] {
            let hidden = after.get(&path).await;
            assert_eq!((hidden.status, hidden.problem()), (404, "report-not-found"), "{path}");
        }
        let hidden = after.follow_report(report).await.unwrap_err().unwrap();
        assert_eq!((hidden.status, hidden.problem()), (404, "report-not-found"));
        for action in ["retry", "cancel"] {
            let hidden = after.post(&format!("{path}/{action}"), &[], &json!({})).await;
            assert_eq!((hidden.status, hidden.problem()), (404, "report-not-found"), "{action}");
        }
        assert_eq!(before.get(&path).await.status, 200);
    }
    assert_eq!(setup.count("reports").await, reports, "a report was retried");
    let list = after.get("/v1/reports").await;
    let listed: Vec<_> = list.body["items"].as_array().unwrap().iter().collect();
    assert_eq!(listed.len(), 1, "{list:?}");
    assert_eq!(listed[0]["reportId"], json!(own));
    assert_eq!(after.get(&format!("/v1/reports/{own}/artifacts/csv")).await.status, 200);
    // The statement that a teller made is also its account's owner's.
    assert_eq!(ann.get(&format!("/v1/reports/{}/artifacts/pdf", foreign[2])).await.status, 200);
    the_audit_log_tells_who_did_it(&setup, &before, &held, &foreign[3]).await;
}

/// `nora` has cancelled a report of hers, and cancels a running one of the teller.
async fn the_audit_log_tells_who_did_it(
    setup: &Setup,
    nora: &Client,
    of_teller: &str,
    of_nora: &str,
) {
    let post = async |client: &Client, path: &str| {
        let done = client.post(path, &[], &json!({})).await;
        assert_eq!(done.status, 202, "{done:?}");
        done
    };
    let [of_teller, of_nora] = [of_teller, of_nora].map(|id| format!("/v1/reports/{id}"));
    let statement = nora.get(&of_teller).await;
    let teller = statement.text("requestedBy").to_owned();
    // To cancel it again, and to send the request for the same retry again, changes nothing.
    for _ in 0..2 {
        post(nora, &format!("{of_teller}/cancel")).await;
    }
    let retry = format!("{of_nora}/retry");
    let retried = post(&setup.client, &retry).await;
    post(&setup.client, &retry).await;
    let unique = json!({ "kind": "reconciliation", "unique": true });
    let open = nora.report(&unique, 0).await;
    let joined = setup.client.report(&unique, 0).await;
    assert_eq!(joined.text("reportId"), open.text("reportId"), "{joined:?}");

    let log = async |query: &str| -> Vec<_> {
        let log = nora.get(&format!("/v1/reports/audit-log?{query}")).await;
        let items = log.body["items"].as_array().unwrap_or_else(|| panic!("{log:?}"));
        let told = items.iter().map(|entry| {
            let (actor, action) = (entry["actor"].clone(), entry["action"].clone());
            assert_eq!(entry["apiKeyId"], Value::Null, "{entry}");
            (actor, action, entry["details"].clone())
        });
        told.collect()
    };
    let (account, kind) = (&statement.body["parameters"]["accountId"], "reconciliation");
    let about = json!({ "kind": "statement", "accountId": account, "ownerId": teller });
    let mut cancelled = about.clone();
    cancelled["requestedBy"] = json!(teller);
    let entry = |actor: &str, act: &str, details: Value| {
        (json!(actor), json!(format!("report.{act}")), details)
    };
    let expected =
        [entry("nora", "cancelled", cancelled.clone()), entry(&teller, "created", about)];
    assert_eq!(log(&format!("resource={of_teller}")).await, expected);
    let new = json!({ "kind": kind, "reportId": retried.text("reportId") });
    let of = |requested_by: &str| json!({ "kind": kind, "requestedBy": requested_by });
    let expected = [
        entry(&teller, "retried", new),
        entry("nora", "cancelled", of("nora")),
        entry("nora", "created", json!({ "kind": kind })),
    ];
    assert_eq!(log(&format!("resource={of_nora}")).await, expected);
    assert_eq!(log("action=report.joined").await, [entry(&teller, "joined", of("nora"))]);
    let both = log("actor=nora&action=report.cancelled&limit=1").await;
    assert_eq!(both, [entry("nora", "cancelled", cancelled)]);
    assert_eq!(log("actor=ann").await, []);
    let refused = nora.get("/v1/reports/audit-log?action=account.created").await;
    assert_eq!((refused.status, refused.problem()), (422, "invalid-field"), "{refused:?}");
    let refused = Client::customer(&setup.stack, "ann").get("/v1/reports/audit-log").await;
    assert_eq!((refused.status, refused.problem()), (403, "forbidden"), "{refused:?}");
}

#[tokio::test]
async fn a_customer_does_not_cancel_a_tellers_statement_and_reads_no_internal_error() {
    let setup = Setup::start("report-of-teller", 1, 0, &[]).await;
    setup.renderer.answer(|call| match call.attempt {
        1 => Answer::Status(StatusCode::INTERNAL_SERVER_ERROR),
        _ => Answer::Nothing,
    });
    let ann = Client::customer(&setup.stack, "ann");
    let request = statement(&ann.open_account("USD").await, &["csv"]);
    let report = setup.client.report(&request, 0).await.text("reportId").to_owned();
    setup.attempt_runs(&report, 2).await;
    let path = format!("/v1/reports/{report}");

    let shown = setup.client.get(&path).await;
    assert!(errors(&shown)[0].as_str().unwrap().contains("500 Internal Server Error"), "{shown:?}");
    assert_eq!(shown.body["error"], *errors(&shown)[0]);
    assert!(shown.body["attempts"][1]["worker"].is_string(), "{shown:?}");
    let shown = ann.get(&path).await;
    assert_eq!((shown.text("error"), errors(&shown)[0].as_str()), (INTERNAL, Some(INTERNAL)));
    assert_eq!(outcomes(&shown), ["FAILED", "none"]);
    for attempt in shown.body["attempts"].as_array().unwrap() {
        assert!(attempt["worker"].is_null(), "{shown:?}");
    }
    let listed = ann.get("/v1/reports").await;
    assert_eq!(listed.body["items"][0]["error"], INTERNAL, "{listed:?}");

    let cancel = async |client: &Client, report: &str| {
        client.post(&format!("/v1/reports/{report}/cancel"), &[], &json!({})).await
    };
    let refused = cancel(&ann, &report).await;
    assert_eq!((refused.status, refused.problem()), (403, "forbidden"), "{refused:?}");
    assert_eq!(cancel(&setup.client, &report).await.status, 202);
    assert_eq!(setup.ended(&report).await.text("state"), "CANCELLED");
    // A retry is a request of the customer's own.
    let retried = ann.post(&format!("{path}/retry"), &[], &json!({})).await;
    assert_eq!((retried.status, retried.text("requestedBy")), (202, "ann"), "{retried:?}");
    assert_eq!(cancel(&ann, retried.text("reportId")).await.status, 202);

    // An error that the customer can avoid.
    setup.renderer.answer(|_| Answer::Problem("not-renderable"));
    let headers = [("idempotency-key", &*new_key()), ("prefer", "wait=20")];
    let failed = ann.post("/v1/reports", &headers, &request).await;
    assert_eq!(failed.text("state"), "FAILED", "{failed:?}");
    assert_eq!((failed.text("error"), errors(&failed)[0].as_str()), (DETAIL, Some(DETAIL)));
    setup.renderer.answer(|_| AT_ONCE);
}
