//! `POST /v1/batches`: each item is processed as if it were a request of its
//! own.

use std::time::Duration;

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
async fn an_invalid_batch_is_rejected_as_a_whole() {
    let client = Client::teller(Stack::shared().await);
    let account = client.open_account("KRW").await;
    let valid = item(&account, "DEPOSIT", "1", &new_key());
    let number =
        json!({ "accountId": account, "type": "DEPOSIT", "amount": 1, "idempotencyKey": "k" });
    let long = "x".repeat(1024 * 1024);
    for (body, status, problem, field) in [
        (json!({ "items": [] }), 422, "invalid-field", Some("items")),
        (json!({ "items": vec![valid.clone(); 1001] }), 422, "invalid-field", Some("items")),
        (json!({ "items": [valid, number] }), 422, "invalid-field", Some("items[1].amount")),
        (
            json!({ "items": [item(&account, "GIFT", "1", "k")] }),
            422,
            "invalid-field",
            Some("items[0].type"),
        ),
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
    let customer = Client::user(stack, "ann", "customer");
    let own = customer.open_account("KRW").await;
    let items =
        [item(&foreign, "WITHDRAWAL", "1", &new_key()), item(&own, "DEPOSIT", "1", &new_key())];
    let response = post(&customer, &items).await;
    let items = response.body["items"].as_array().unwrap();
    let statuses: Vec<_> = items.iter().map(|item| item["status"].clone()).collect();
    assert_eq!(statuses, [403, 202]);
}
