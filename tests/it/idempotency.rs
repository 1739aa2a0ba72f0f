//! One idempotency key makes one record.

use std::collections::BTreeSet;

use futures::future::join_all;
use tests::{Client, Stack, client::new_key, invariants};

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
