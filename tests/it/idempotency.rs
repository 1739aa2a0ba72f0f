//! One idempotency key makes one record.

use std::collections::BTreeSet;

use contract::Scopes;
use futures::future::join_all;
use serde_json::json;
use tests::{Client, Response, Stack, client::new_key, invariants};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_clients_with_one_key_get_one_record_and_answers_that_agree() {
    let stack = Stack::shared().await;
    let client = Client::teller(stack);
    let account = client.open_account("KRW").await;
    let key = new_key();
    let tries = (0..20).map(|_| client.movement("deposits", &account, "10000", &key, Some(20)));
    let responses = join_all(tries).await;
    let bodies: BTreeSet<_> = responses.iter().map(|response| response.body.to_string()).collect();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    assert!(
        responses
            .iter()
            .all(|response| response.status == 200 && response.text("status") == "SUCCESS")
    );
    let not_replayed =
        responses.iter().filter(|response| response.header("idempotent-replayed").is_none());
    assert_eq!(not_replayed.count(), 1, "one request has made the record");
    invariants::holds(&stack.ledger().await, "accounts", &account, 10_000).await.unwrap();

    let other = client.movement("deposits", &account, "10001", &key, None).await;
    assert_eq!((other.status, other.problem()), (422, "idempotency-key-reused"));
    let other = client.movement("withdrawals", &account, "10000", &key, None).await;
    assert_eq!((other.status, other.problem()), (422, "idempotency-key-reused"));
}

#[tokio::test]
async fn a_repeated_request_is_answered_with_the_record_as_it_is_now() {
    let client = Client::teller(Stack::shared().await);
    let account = client.open_account("USD").await;
    let key = new_key();
    let first = client.movement("deposits", &account, "10.5", &key, None).await;
    assert_eq!(first.header("idempotent-replayed"), None);
    client.settled(first.text("recordId")).await;
    let quoted = format!("\"{key}\"");
    let again = client.movement("deposits", &account, "10.50", &quoted, None).await;
    // 200, because the record is settled; with or without a wait.
    assert_eq!((again.status, again.header("idempotent-replayed")), (200, Some("true")));
    assert_eq!(again.body["recordId"], first.body["recordId"]);
    assert_eq!(again.text("status"), "SUCCESS");
    assert_eq!(again.header("preference-applied"), None);
    let waited = client.movement("deposits", &account, "10.50", &key, Some(5)).await;
    assert_eq!((waited.status, waited.text("status")), (200, "SUCCESS"));
}

#[tokio::test]
async fn a_key_belongs_to_its_account() {
    let client = Client::teller(Stack::shared().await);
    let key = new_key();
    let mut records = BTreeSet::new();
    for _ in 0..2 {
        let account = client.open_account("KRW").await;
        let response = client.movement("deposits", &account, "1", &key, None).await;
        assert_eq!(response.header("idempotent-replayed"), None);
        records.insert(response.text("recordId").to_owned());
    }
    assert_eq!(records.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_belongs_to_its_caller() {
    let stack = Stack::shared().await;
    let ann = Client::merchant(stack, "ann");
    let tellers = ["tim", "tom"].map(|name| Client::user(stack, name, Scopes::all()));
    let account = ann.open_account("KRW").await;
    let key = new_key();
    let first = ann.movement("deposits", &account, "100", &key, Some(20)).await;
    let record = |response: &Response| response.text("recordId").to_owned();
    let mut records = vec![record(&first)];
    for (teller, amount) in tellers.iter().zip(["100", "7"]) {
        // The same request as the first caller's, then another one: both are new.
        let tries = (0..6).map(|_| teller.movement("deposits", &account, amount, &key, Some(20)));
        let answers = join_all(tries).await;
        let ids: BTreeSet<_> = answers.iter().map(record).collect();
        assert_eq!(ids.len(), 1, "{answers:?}");
        let new = answers.iter().filter(|one| one.header("idempotent-replayed").is_none()).count();
        assert!(new == 1 && answers.iter().all(|one| one.status == 200), "{answers:?}");
        records.extend(ids);
        let other = teller.movement("deposits", &account, "8", &key, None).await;
        assert_eq!((other.status, other.problem()), (422, "idempotency-key-reused"));
    }
    assert_eq!(records.iter().collect::<BTreeSet<_>>().len(), 3);
    let again = ann.movement("deposits", &account, "100", &key, None).await;
    assert_eq!((record(&again), again.status), (records[0].clone(), 200));
    // In a batch, too.
    let item = json!({ "accountId": account, "type": "DEPOSIT", "amount": "7",
                       "idempotencyKey": key });
    for (client, status, expected) in
        [(&tellers[1], 200, Some(&records[2])), (&tellers[0], 422, None), (&ann, 422, None)]
    {
        let batch = client.post("/v1/batches", &[], &json!({ "items": [item] })).await;
        let item = &batch.body["items"][0];
        assert_eq!(item["status"], status, "{item}");
        assert_eq!(item["record"]["recordId"].as_str(), expected.map(String::as_str), "{item}");
    }
    let page = ann.get(&format!("/v1/accounts/{account}/records")).await;
    let shown: Vec<_> = page.body["items"].as_array().unwrap().iter().rev().collect();
    let callers: Vec<_> = shown.iter().map(|record| record["requestedBy"].clone()).collect();
    assert_eq!(callers, ["ann", "tim", "tom"]);
    assert!(shown.iter().all(|record| record["idempotencyKey"] == *key), "{page:?}");
    invariants::holds(&stack.ledger().await, "accounts", &account, 207).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_is_opened_once_under_a_key() {
    let stack = Stack::shared().await;
    let (ann, ben) = (Client::merchant(stack, "ann"), Client::merchant(stack, "ben"));
    let key = new_key();
    let open = async |client: &Client, currency: &str| {
        let body = json!({ "currency": currency });
        client.post("/v1/accounts", &[("idempotency-key", key.as_str())], &body).await
    };
    let answers = join_all((0..20).map(|_| open(&ann, "KRW"))).await;
    assert!(answers.iter().all(|answer| answer.status == 201), "{answers:?}");
    let bodies: BTreeSet<_> = answers.iter().map(|answer| answer.body.to_string()).collect();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    let new = answers.iter().filter(|one| one.header("idempotent-replayed").is_none()).count();
    assert_eq!(new, 1, "{answers:?}");
    let account = answers[0].text("accountId");
    assert_eq!(answers[0].header("location"), Some(format!("/v1/accounts/{account}").as_str()));
    // The account as it is now.
    ann.deposit(account, "5").await;
    assert_eq!(open(&ann, "KRW").await.text("balance"), "5");

    let other = open(&ann, "USD").await;
    assert_eq!((other.status, other.problem()), (422, "idempotency-key-reused"), "{other:?}");
    let of_ben = open(&ben, "USD").await;
    assert_eq!((of_ben.status, of_ben.header("idempotent-replayed")), (201, None), "{of_ben:?}");
    assert_eq!(of_ben.text("ownerId"), "ben");
    let malformed = ann.post("/v1/accounts", &[("idempotency-key", "a b")], &json!({})).await;
    assert_eq!(malformed.status, 422, "the body comes first: {malformed:?}");
    let body = json!({ "currency": "KRW" });
    let malformed = ann.post("/v1/accounts", &[("idempotency-key", "a b")], &body).await;
    let problem = (malformed.status, malformed.problem());
    assert_eq!(problem, (400, "idempotency-key-malformed"), "{malformed:?}");
}
