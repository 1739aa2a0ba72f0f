//! `POST /v1/batches`: each item for itself, as if it had come alone.

use std::time::Duration;

use devstack::Secrets;
use reqwest::Method;
use serde_json::{Value, json};
use tests::{Answer, Client, Stack, checks, client::new_key, eventually};

fn item(account: &str, r#type: &str, amount: &str, key: &str) -> Value {
    json!({ "accountId": account, "type": r#type, "amount": amount, "idempotencyKey": key })
}

async fn post(client: &Client, items: &[Value]) -> Answer {
    client.post("/v1/batches", &[], &json!({ "items": items })).await
}

#[tokio::test]
async fn each_item_of_a_batch_gets_its_own_status() {
    let client = Client::teller(Stack::shared().await);
    let (krw, usd) = (client.open_account("KRW").await, client.open_account("USD").await);
    let nobody = new_key();
    let keys: Vec<_> = (0..9).map(|_| new_key()).collect();
    let items = [
        item(&krw, "DEPOSIT", "10000", &keys[0]),
        item(&usd, "DEPOSIT", "10.50", &keys[1]),
        item(&krw, "DEPOSIT", "1.5", &keys[2]),
        item(&nobody, "DEPOSIT", "1", &keys[3]),
        item("7", "DEPOSIT", "1", &keys[4]),
        item(&krw, "WITHDRAWAL", "0", &keys[5]),
        item(&krw, "DEPOSIT", "1", "two words"),
        // The same twice, and another movement under a key that is taken.
        item(&krw, "DEPOSIT", "10000", &keys[0]),
        item(&krw, "DEPOSIT", "10001", &keys[0]),
    ];
    let answer = post(&client, &items).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let answers = answer.body["items"].as_array().unwrap();
    let told = |at: usize| {
        let it = &answers[at];
        let problem = it["problem"]["type"].as_str().unwrap_or("accepted");
        let field = it["problem"]["field"].as_str().unwrap_or_default();
        (it["status"].as_u64().unwrap(), problem.trim_start_matches("/problems/"), field)
    };
    let told: Vec<_> = (0..items.len()).map(told).collect();
    assert_eq!(
        told,
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
    assert_eq!(answers[7]["replayed"], true);
    let id = |at: usize| answers[at]["record"]["recordId"].as_str().unwrap();
    assert_eq!(id(0), id(7));
    for at in [0, 1] {
        assert_eq!(client.settled(id(at)).await.text("status"), "SUCCESS");
    }
    // Sent again as it was, it does nothing more.
    let again = post(&client, &items[..2]).await;
    for (at, item) in again.body["items"].as_array().unwrap().iter().enumerate() {
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
    // Twice at the same time, at whichever replicas: as a client that lost patience would.
    let (one, two) = futures::join!(post(&client, &items), post(&client, &items));
    for answer in [&one, &two] {
        assert_eq!(answer.status, 200, "{answer:?}");
        let answers = answer.body["items"].as_array().unwrap();
        assert!(answers.len() == 1000 && answers.iter().all(|it| it["status"] == 202));
    }
    let ids = |answer: &Answer| -> Vec<String> {
        let items = answer.body["items"].as_array().unwrap().iter();
        items.map(|it| it["record"]["recordId"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&one), ids(&two));
    let ledger = Stack::shared().await.ledger().await;
    eventually("all of it is in the ledger", Duration::from_secs(20), async || {
        checks::holds(&ledger, "accounts", &account, 7000).await.ok()
    })
    .await;
    eventually("it is shown", Duration::from_secs(20), async || {
        (client.account(&account).await.text("balance") == "7000").then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_invalid_batch_is_rejected_as_a_whole() {
    let client = Client::teller(Stack::shared().await);
    let account = client.open_account("KRW").await;
    let good = item(&account, "DEPOSIT", "1", &new_key());
    let number =
        json!({ "accountId": account, "type": "DEPOSIT", "amount": 1, "idempotencyKey": "k" });
    let long = "x".repeat(1024 * 1024);
    for (body, status, problem, field) in [
        (json!({ "items": [] }), 422, "invalid-field", Some("items")),
        (json!({ "items": vec![good.clone(); 1001] }), 422, "invalid-field", Some("items")),
        (json!({ "items": [good, number] }), 422, "invalid-field", Some("items[1].amount")),
        (
            json!({ "items": [item(&account, "GIFT", "1", "k")] }),
            422,
            "invalid-field",
            Some("items[0].type"),
        ),
        (json!({ "item": [] }), 422, "invalid-field", Some("item")),
        (json!({ "items": [], "x": long }), 413, "body-too-large", None),
    ] {
        let answer = client.post("/v1/batches", &[], &body).await;
        assert_eq!((answer.status, answer.problem()), (status, problem), "{answer:?}");
        assert_eq!(answer.body["field"].as_str(), field, "{answer:?}");
    }
    let half = client
        .send(
            Method::POST,
            "/v1/batches",
            &[("content-type", "application/json")],
            Some(b"{\"items\":[".to_vec()),
        )
        .await
        .unwrap();
    assert_eq!((half.status, half.problem()), (400, "malformed-json"));
    let page = client.get(&format!("/v1/accounts/{account}/records")).await;
    assert_eq!(page.body["items"], json!([]));
}

#[tokio::test]
async fn a_customer_can_only_use_their_own_accounts_in_a_batch() {
    let stack = Stack::shared().await;
    let teller = Client::teller(stack);
    let others = teller.open_account("KRW").await;
    let secrets = Secrets::read(&stack.dir).unwrap();
    let token = secrets.token("ann", "customer", time::Duration::hours(1)).unwrap();
    let customer = Client::new(&stack.file().api, &token);
    let own = customer.open_account("KRW").await;
    let items =
        [item(&others, "WITHDRAWAL", "1", &new_key()), item(&own, "DEPOSIT", "1", &new_key())];
    let answer = post(&customer, &items).await;
    let statuses: Vec<_> =
        answer.body["items"].as_array().unwrap().iter().map(|it| it["status"].clone()).collect();
    assert_eq!(statuses, [403, 202]);
}
