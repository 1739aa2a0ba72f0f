//! Requests for reports: keys, access, and invalid input.

use std::time::Duration;

use serde_json::{Value, json};
use tests::{Client, Stack, broker, client::new_key, eventually};

use super::{statement, used_account};

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn the_same_key_answers_with_the_same_report() {
    let client = Client::teller(Stack::shared().await);
    let request = statement(&used_account(&client).await, &["csv"]);
    let key = new_key();
    let headers = [("idempotency-key", key.as_str())];
    let first = client.post("/v1/reports", &headers, &request).await;
    assert_eq!(first.status, 202, "{first:?}");
    let location = format!("/v1/reports/{}", first.text("reportId"));
    assert_eq!(first.header("location"), Some(location.as_str()));
    // Times have six digits of fraction, those of a period too.
    let to = first.body["parameters"]["to"].as_str().unwrap();
    for time in [first.text("createdAt"), first.text("updatedAt"), to] {
        assert!(time.get(19..20) == Some(".") && time.get(26..) == Some("Z"), "{first:?}");
    }
    let again = client.post("/v1/reports", &headers, &request).await;
    assert_eq!(again.text("reportId"), first.text("reportId"));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    let mut other = request.clone();
    other["formats"] = json!(["json"]);
    let other = client.post("/v1/reports", &headers, &other).await;
    assert_eq!((other.status, other.problem()), (422, "idempotency-key-reused"), "{other:?}");
    let none = client.post("/v1/reports", &[], &request).await;
    assert_eq!((none.status, none.problem()), (400, "idempotency-key-missing"));
}

#[tokio::test]
async fn invalid_requests_name_their_field_and_store_nothing() {
    let client = Client::teller(Stack::shared().await);
    let account = client.open_account("USD").await;
    let valid = statement(&account, &["pdf"]);
    let with = |field: &str, value: Value| {
        let mut body = valid.clone();
        body[field] = value;
        body
    };
    let unknown = new_key();
    for (body, status, field) in [
        (with("kind", json!("balance")), 422, "kind"),
        (with("formats", json!(["docx"])), 422, "formats"),
        (with("formats", json!(["html"])), 422, "formats"),
        (with("formats", json!([])), 422, "formats"),
        (with("formats", json!(["pdf", "pdf"])), 422, "formats"),
        (with("formats", json!("pdf")), 422, "formats"),
        (with("timeZone", json!("Mars/Base")), 422, "timeZone"),
        (with("timeZone", json!("")), 422, "timeZone"),
        (with("from", json!("2026-02-30")), 422, "from"),
        (with("from", json!(20_260_101)), 422, "from"),
        (with("from", json!("1500-01-01")), 422, "from"),
        (with("from", json!("2020-01-01")), 422, "from"),
        (with("to", json!("2526-01-01")), 422, "to"),
        (with("to", json!("9999-12-31")), 422, "to"),
        (with("to", json!("2000-01-01")), 422, "to"),
        (with("accountId", json!("x")), 422, "accountId"),
        (with("accountId", json!(unknown)), 404, ""),
        (with("analysis", json!(true)), 422, "analysis"),
        (with("unique", json!("yes")), 422, "unique"),
        (with("colour", json!("red")), 422, "colour"),
        (json!({ "kind": "statement" }), 422, "accountId"),
        (json!({ "kind": "activity", "from": "2026-01-01" }), 422, "to"),
        (json!({ "kind": "reconciliation", "from": "2026-01-01" }), 422, "from"),
        (json!({}), 422, "kind"),
        (json!([]), 422, ""),
    ] {
        let key = new_key();
        let response =
            client.post("/v1/reports", &[("idempotency-key", key.as_str())], &body).await;
        assert_eq!(
            (response.status, response.text("field")),
            (status, field),
            "{body} {response:?}"
        );
        // The key is still free.
        let headers = [("idempotency-key", key.as_str())];
        let valid = client.post("/v1/reports", &headers, &valid).await;
        assert_eq!((valid.status, valid.header("idempotent-replayed")), (202, None), "{body}");
    }
}

#[tokio::test]
async fn a_customer_sees_the_statements_of_own_accounts_only() {
    let stack = Stack::shared().await;
    let (owner, stranger) = (new_key(), new_key());
    let owner = Client::customer(stack, &owner);
    let stranger = Client::customer(stack, &stranger);
    let request = statement(&owner.open_account("KRW").await, &["csv"]);
    let report = owner.report(&request, 20).await;
    assert_eq!((report.status, report.text("state")), (200, "SUCCEEDED"), "{report:?}");
    let refused = stranger.report(&request, 0).await;
    assert_eq!((refused.status, refused.problem()), (404, "account-not-found"));
    for kind in ["activity", "reconciliation"] {
        let refused = owner.report(&json!({ "kind": kind }), 0).await;
        assert_eq!((refused.status, refused.problem()), (403, "forbidden"), "{kind}");
        let challenge = refused.header("www-authenticate").unwrap_or_default();
        assert!(challenge.contains("scope=\"accounts:any\""), "{kind}: {challenge}");
    }
    let path = format!("/v1/reports/{}", report.text("reportId"));
    for path in [path.clone(), format!("{path}/artifacts/csv"), format!("{path}/events")] {
        let hidden = stranger.get(&path).await;
        assert_eq!((hidden.status, hidden.problem()), (404, "report-not-found"), "{path}");
    }
    let cancelled = stranger.post(&format!("{path}/cancel"), &[], &json!({})).await;
    assert_eq!(cancelled.status, 404);
    let list = |client: Client| async move {
        let page = client.get("/v1/reports?limit=100").await;
        page.body["items"].as_array().unwrap().len()
    };
    assert_eq!((list(owner).await, list(stranger).await), (1, 0));
    // A teller's statement of a customer's account is also the customer's.
    assert_eq!(Client::teller(stack).get(&path).await.status, 200);
}

#[tokio::test]
async fn a_list_has_pages_and_filters() {
    let stack = Stack::shared().await;
    let name = new_key();
    let client = Client::customer(stack, &name);
    let request = statement(&client.open_account("KRW").await, &["csv"]);
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(client.report(&request, 20).await.text("reportId").to_owned());
    }
    let list = "/v1/reports?kind=statement&state=SUCCEEDED&limit=2";
    let first = client.get(list).await;
    let cursor = first.text("nextCursor").to_owned();
    let second = client.get(&format!("{list}&cursor={cursor}")).await;
    // A cursor belongs to its list: to the filters, and to the customer.
    let unfiltered = client.get(&format!("/v1/reports?limit=2&cursor={cursor}")).await;
    let other = Client::customer(stack, &new_key());
    let other = other.get(&format!("{list}&cursor={cursor}")).await;
    for answer in [unfiltered, other] {
        assert_eq!((answer.status, answer.problem()), (400, "invalid-cursor"), "{answer:?}");
    }
    let items = |page: &tests::Response| {
        let items = page.body["items"].as_array().unwrap().iter();
        items.map(|item| item["reportId"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    ids.reverse();
    assert_eq!([items(&first), items(&second)].concat(), ids);
    assert!(second.body["nextCursor"].is_null());
    assert!(items(&client.get("/v1/reports?state=FAILED").await).is_empty());
    for (query, status, field) in [
        ("kind=x", 422, "kind"),
        ("state=done", 422, "state"),
        ("limit=0", 422, "limit"),
        ("cursor=x", 400, "cursor"),
        ("status=done", 400, "status"),
    ] {
        let response = client.get(&format!("/v1/reports?{query}")).await;
        assert_eq!((response.status, response.text("field")), (status, field), "{query}");
        assert_eq!(response.body["errors"][0]["parameter"], field, "{query}");
    }
}

#[tokio::test]
async fn an_ended_report_can_not_be_cancelled_or_retried() {
    let client = Client::teller(Stack::shared().await);
    let request = statement(&client.open_account("KRW").await, &["csv"]);
    let report = client.report(&request, 20).await;
    assert_eq!(report.text("state"), "SUCCEEDED");
    for action in ["cancel", "retry"] {
        let path = format!("/v1/reports/{}/{action}", report.text("reportId"));
        let response = client.post(&path, &[], &json!({})).await;
        assert_eq!(
            (response.status, response.problem()),
            (409, "report-state-conflict"),
            "{action}"
        );
    }
    let unknown = client.post(&format!("/v1/reports/{}/cancel", new_key()), &[], &json!({})).await;
    assert_eq!((unknown.status, unknown.problem()), (404, "report-not-found"));
    let malformed = client.get("/v1/reports/x").await;
    assert_eq!((malformed.status, malformed.problem()), (400, "malformed-id"));
}

#[tokio::test]
async fn a_message_that_nobody_of_ours_wrote_is_dead_lettered_and_runs_nothing() {
    let stack = Stack::shared().await;
    let client = Client::teller(stack);
    let jetstream = broker::connect(stack).await;
    let unknown = json!({ "reportId": new_key() }).to_string();
    for body in ["", "x", "[]", "{}", r#"{"reportId":7}"#, r#"{"reportId":"X"}"#, &unknown] {
        // The mark tells the dead letters of this test apart.
        let body = format!("{body}  {}", " ".repeat(usize::from(rand::random::<u8>())));
        broker::publish(&jetstream, "message.process", &new_key(), body.clone()).await;
        broker::dead_letter(&jetstream, SOON, |letter| letter == body.as_bytes()).await;
    }
    // The message of a report that is done changes nothing.
    let request = statement(&client.open_account("KRW").await, &["csv"]);
    let report = client.report(&request, 20).await;
    let id = report.text("reportId").to_owned();
    let body = json!({ "reportId": id }).to_string();
    broker::publish(&jetstream, "message.process", &new_key(), body).await;
    let next = client.report(&request, 20).await;
    assert_eq!(next.text("state"), "SUCCEEDED", "the queue goes on");
    let again = client.get(&format!("/v1/reports/{id}")).await;
    assert_eq!((again.text("state"), again.body["attempt"].as_i64()), ("SUCCEEDED", Some(1)));
    eventually("the queue is empty", SOON, || async {
        (broker::stream(&jetstream, "job").await.state.messages == 0).then_some(())
    })
    .await;
}
