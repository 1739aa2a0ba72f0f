//! `POST /v1/batches`: each item is processed as if it were a request of its
//! own.

mod limits;

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Client, Response, Stack, client::new_key, eventually, invariants};

fn item(account: &str, r#type: &str, amount: &str, key: &str) -> Value {
    json!({ "accountId": account, "type": r#type, "amount": amount, "idempotencyKey": key })
}

async fn post(client: &Client, items: &[Value]) -> Response {
    client.post("/v1/batches", &[], &json!({ "items": items })).await
}

/// Status, problem and field of an item in a response.
fn summary(item: &Value) -> (u64, &str, &str) {
    let problem = item["problem"]["type"].as_str().unwrap_or("accepted");
    let field = item["problem"]["field"].as_str().unwrap_or_default();
    (item["status"].as_u64().unwrap(), problem.trim_start_matches("/problems/"), field)
}

#[tokio::test]
async fn each_item_of_a_batch_gets_its_own_status() {
    let client = Client::teller(Stack::shared().await);
    let (krw, usd) = (client.open_account("KRW").await, client.open_account("USD").await);
    let unknown = new_key();
    let keys: Vec<_> = (0..9).map(|_| new_key()).collect();
    let items = [
        item(&krw, "DEPOSIT", "10000", &keys[0]),
        item(&usd, "DEPOSIT", "10.50", &keys[1]),
        item(&krw, "DEPOSIT", "1.5", &keys[2]),
        item(&unknown, "DEPOSIT", "1", &keys[3]),
        item("7", "DEPOSIT", "1", &keys[4]),
        item(&krw, "WITHDRAWAL", "0", &keys[5]),
        item(&krw, "DEPOSIT", "1", "two words"),
        // The first item again, and another movement with the key of the first.
        item(&krw, "DEPOSIT", "10000", &keys[0]),
        item(&krw, "DEPOSIT", "10001", &keys[0]),
    ];
    let response = post(&client, &items).await;
    assert_eq!(response.status, 200, "{response:?}");
    let answered = response.body["items"].as_array().unwrap();
    assert_eq!(answered.len(), items.len());
    let summaries: Vec<_> = answered.iter().map(summary).collect();
    assert_eq!(
        summaries,
        [
            (202, "accepted", ""),
            (202, "accepted", ""),
            (422, "invalid-field", "amount"),
            (404, "account-not-found", ""),
            (400, "malformed-id", "accountId"),
            (422, "invalid-field", "amount"),
            (400, "idempotency-key-malformed", "idempotencyKey"),
            (202, "accepted", ""),
            (422, "idempotency-key-reused", "idempotencyKey"),
        ]
    );
    assert_eq!(answered[7]["replayed"], true);
    let id = |at: usize| answered[at]["record"]["recordId"].as_str().unwrap();
    assert_eq!(id(0), id(7));
    for at in [0, 1] {
        assert_eq!(client.settled(id(at)).await.text("status"), "SUCCESS");
    }
    // The same items again change nothing.
    let again = post(&client, &items[..2]).await;
    for (at, item) in again.body["items"].as_array().unwrap().iter().enumerate() {
        assert_eq!(item["status"], 200, "a settled record");
        assert_eq!(
            (&item["replayed"], &item["record"]["status"]),
            (&json!(true), &json!("SUCCESS"))
        );
        assert_eq!(item["record"]["recordId"], id(at));
    }
    assert_eq!(client.account(&krw).await.text("balance"), "10000");
    assert_eq!(client.account(&usd).await.text("balance"), "10.50");
}

#[tokio::test]
async fn a_thousand_movements_in_a_batch_settle_once() {
    let client = Client::teller(Stack::shared().await);
    let account = client.open_account("KRW").await;
    let items: Vec<_> = (0..1000).map(|_| item(&account, "DEPOSIT", "7", &new_key())).collect();
    // Twice at the same time, as a client sends it after a timeout.
    let (one, two) = futures::join!(post(&client, &items), post(&client, &items));
    for response in [&one, &two] {
        assert_eq!(response.status, 200, "{response:?}");
        let responses = response.body["items"].as_array().unwrap();
        let accepted = |item: &Value| {
            item["status"] == if item["record"]["status"] == "PENDING" { 202 } else { 200 }
        };
        assert!(responses.len() == 1000 && responses.iter().all(accepted), "{response:?}");
    }
    let ids = |response: &Response| -> Vec<String> {
        let items = response.body["items"].as_array().unwrap().iter();
        items.map(|item| item["record"]["recordId"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&one), ids(&two));
    let ledger = Stack::shared().await.ledger().await;
    eventually("the ledger holds all deposits", Duration::from_secs(20), async || {
        invariants::holds(&ledger, "accounts", &account, 7000).await.ok()
    })
    .await;
    eventually("the account shows the balance", Duration::from_secs(20), async || {
        (client.account(&account).await.text("balance") == "7000").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_malformed_item_is_refused_alone() {
    let client = Client::teller(Stack::shared().await);
    let account = client.open_account("KRW").await;
    let good = || item(&account, "DEPOSIT", "7", &new_key()).to_string();
    let with = |field: &str, value: Value| {
        let mut item = item(&account, "DEPOSIT", "1", &new_key());
        item[field] = value;
        item.to_string()
    };
    let without = |field: &str| {
        let mut item = item(&account, "DEPOSIT", "1", &new_key());
        item.as_object_mut().unwrap().remove(field);
        item.to_string()
    };
    let twice = good().replacen('{', r#"{"amount":"1","#, 1);
    let surrogate = good().replace(r#""7""#, r#""\ud800""#);
    let deep = with("amount", json!(null))
        .replace("null", &format!("{0}1{1}", "[".repeat(64), "]".repeat(64)));
    let invalid = [
        (with("amount", json!(1)), 422, "invalid-field", "amount"),
        (with("amount", json!(null)), 422, "invalid-field", "amount"),
        (with("type", json!("GIFT")), 422, "invalid-field", "type"),
        (with("note", json!("x")), 422, "invalid-field", "note"),
        (with("accountId", json!({})), 422, "invalid-field", "accountId"),
        (without("idempotencyKey"), 422, "invalid-field", "idempotencyKey"),
        (twice, 400, "duplicate-field", "amount"),
        (surrogate, 400, "malformed-json", ""),
        (deep, 422, "invalid-field", "amount"),
        ("null".to_owned(), 422, "invalid-field", ""),
        ("7".to_owned(), 422, "invalid-field", ""),
        ("[]".to_owned(), 422, "invalid-field", ""),
        ("{}".to_owned(), 422, "invalid-field", "accountId"),
    ];
    // Each invalid item between two good ones.
    let mut items = vec![good()];
    items.extend(invalid.iter().flat_map(|(item, ..)| [item.clone(), good()]));
    let body = format!(r#"{{ "items" : [ {} ] }}"#, items.join(" , "));
    let json = [("content-type", "application/json")];
    let send = async || {
        client.send(Method::POST, "/v1/batches", &json, Some(body.clone().into())).await.unwrap()
    };
    let response = send().await;
    assert_eq!(response.status, 200, "{response:?}");
    let answered = response.body["items"].as_array().unwrap();
    assert_eq!(answered.len(), items.len());
    for (at, answer) in answered.iter().enumerate() {
        assert_eq!(answer["index"], at, "{answer}");
        if at % 2 == 0 {
            assert_eq!(summary(answer), (202, "accepted", ""), "{answer}");
        } else {
            let (item, status, problem, field) = &invalid[at / 2];
            assert_eq!(summary(answer), (*status, *problem, *field), "{item}: {answer}");
            assert!(answer["record"].is_null());
            let pointer = match *field {
                "" => format!("#/items/{at}"),
                field => format!("#/items/{at}/{field}"),
            };
            let error = &answer["problem"]["errors"][0];
            assert_eq!(error["pointer"], pointer, "{item}: {answer}");
            assert_eq!(error["detail"], answer["problem"]["detail"], "{answer}");
        }
    }
    // Sent again, the good ones are replayed.
    let again = send().await;
    let items = again.body["items"].as_array().unwrap();
    let replayed = items.iter().filter(|item| item["replayed"] == true).count();
    assert_eq!(replayed, invalid.len() + 1);
    let page = client.get(&format!("/v1/accounts/{account}/records?limit=100")).await;
    assert_eq!(page.body["items"].as_array().unwrap().len(), invalid.len() + 1);
    for at in (0..items.len()).step_by(2) {
        client.settled(items[at]["record"]["recordId"].as_str().unwrap()).await;
    }
    assert_eq!(client.account(&account).await.text("balance"), "98");
}

#[tokio::test]
async fn a_client_may_wait_for_all_records_of_a_batch() {
    let stack = Stack::shared().await;
    let client = Client::teller(stack);
    let account = client.open_account("KRW").await;
    let mut items: Vec<_> = (0..50).map(|_| item(&account, "DEPOSIT", "2", &new_key())).collect();
    items.push(item(&account, "WITHDRAWAL", "1000000", &new_key()));
    items.push(json!(null));
    let body = json!({ "items": items });
    let begun = Instant::now();
    let first = client.post("/v1/batches", &[("prefer", "wait=20")], &body).await;
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!((first.status, first.header("preference-applied")), (200, Some("wait=20")));
    let settled = first.body["items"].as_array().unwrap();
    assert!(settled[..50].iter().all(|item| item["status"] == 200
        && item["record"]["status"] == "SUCCESS"
        && item["record"]["accountSeq"].is_i64()));
    let reason = &settled[50]["record"]["reason"];
    assert_eq!((&settled[50]["status"], reason), (&json!(200), &json!("INSUFFICIENT_FUNDS")));
    assert_eq!(settled[51]["status"], 422);
    assert_eq!(client.account(&account).await.text("balance"), "100");
    let again = client.post("/v1/batches", &[], &body).await;
    for (one, other) in settled.iter().zip(again.body["items"].as_array().unwrap()) {
        assert_eq!((&one["record"], &one["status"]), (&other["record"], &other["status"]));
    }
    assert_eq!(again.header("preference-applied"), None);
}

#[tokio::test]
async fn an_invalid_batch_is_rejected_as_a_whole() {
    let client = Client::teller(Stack::shared().await);
    let account = client.open_account("KRW").await;
    let valid = item(&account, "DEPOSIT", "1", &new_key());
    let long = "x".repeat(1024 * 1024);
    for (body, status, problem, field) in [
        (json!({ "items": [] }), 422, "invalid-field", Some("items")),
        (json!({ "items": vec![valid.clone(); 1001] }), 422, "invalid-field", Some("items")),
        (json!({ "items": vec![json!(null); 100_000] }), 422, "invalid-field", Some("items")),
        (json!({ "items": valid }), 422, "invalid-field", Some("items")),
        (json!({ "items": [valid], "note": "x" }), 422, "invalid-field", Some("note")),
        (json!({ "item": [] }), 422, "invalid-field", Some("item")),
        (json!({ "items": [], "x": long }), 413, "body-too-large", None),
    ] {
        let response = client.post("/v1/batches", &[], &body).await;
        assert_eq!((response.status, response.problem()), (status, problem), "{response:?}");
        assert_eq!(response.body["field"].as_str(), field, "{response:?}");
    }
    let truncated = client
        .send(
            Method::POST,
            "/v1/batches",
            &[("content-type", "application/json")],
            Some(b"{\"items\":[".to_vec()),
        )
        .await
        .unwrap();
    assert_eq!((truncated.status, truncated.problem()), (400, "malformed-json"));
    let page = client.get(&format!("/v1/accounts/{account}/records")).await;
    assert_eq!(page.body["items"], json!([]));
}

#[tokio::test]
async fn a_customer_can_only_use_their_own_accounts_in_a_batch() {
    let stack = Stack::shared().await;
    let teller = Client::teller(stack);
    let foreign = teller.open_account("KRW").await;
    let customer = Client::customer(stack, "ann");
    let own = customer.open_account("KRW").await;
    let items = [
        item(&foreign, "WITHDRAWAL", "1", &new_key()),
        item(&own, "DEPOSIT", "1", &new_key()),
        item(&own, "WITHDRAWAL", "1", &new_key()),
    ];
    let response = post(&customer, &items).await;
    let items = response.body["items"].as_array().unwrap();
    let statuses: Vec<_> = items.iter().map(|item| item["status"].clone()).collect();
    // An account of another owner does not exist, and a customer alone makes no money.
    assert_eq!(statuses, [404, 403, 202]);
}
