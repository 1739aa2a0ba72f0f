//! Accounts, and the pages of their records.

use std::collections::BTreeSet;

use contract::TransactionId;
use serde_json::{Value, json};
use tests::{Client, Response, Stack, client::new_key};

#[tokio::test]
async fn an_account_starts_empty_and_shows_its_deposits() {
    let client = Client::teller(Stack::shared().await);
    let account = client.open_account("USD").await;
    let empty = client.account(&account).await;
    assert_eq!((empty.text("balance"), &empty.body["accountSeq"]), ("0.00", &0.into()));
    assert_eq!((empty.text("currency"), empty.text("status")), ("USD", "ACTIVE"));

    let deposit = client.deposit(&account, "10.5").await;
    assert_eq!((deposit.status, deposit.text("status")), (200, "SUCCESS"));
    assert_eq!((deposit.text("amount"), deposit.text("balanceAfter")), ("10.50", "10.50"));
    let shown = client.account(&account).await;
    assert_eq!((shown.text("balance"), &shown.body["accountSeq"]), ("10.50", &1.into()));
    for answer in [&empty, &shown, &deposit] {
        assert_six_digits(answer);
    }
}

/// Times are in UTC and have microseconds, so that they can be compared as text.
fn assert_six_digits(answer: &Response) {
    for field in ["createdAt", "updatedAt"] {
        let time = answer.text(field);
        let (_, fraction) = time.split_once('.').unwrap_or_default();
        assert!(time.len() == 27 && fraction.len() == 7 && time.ends_with('Z'), "{answer:?}");
    }
}

#[tokio::test]
async fn a_record_shows_its_number_its_key_and_its_caller() {
    let stack = Stack::shared().await;
    let (teller, ann) = (Client::teller(stack), Client::merchant(stack, "ann"));
    let account = ann.open_account("KRW").await;
    let keys: Vec<_> = (0..3).map(|_| new_key()).collect();
    let first = ann.movement("deposits", &account, "5", &keys[0], Some(20)).await;
    let refused = ann.movement("withdrawals", &account, "6", &keys[1], Some(20)).await;
    let second = teller.movement("withdrawals", &account, "5", &keys[2], Some(20)).await;
    let expected = [
        (&first, "SUCCESS", json!(1), &keys[0], "ann"),
        (&refused, "FAILED", Value::Null, &keys[1], "ann"),
        (&second, "SUCCESS", json!(2), &keys[2], "teller"),
    ];
    for (answer, status, seq, key, caller) in expected {
        // The waiting client has it from a notification, the others from the database.
        let shown = ann.record(answer.text("recordId")).await;
        for answer in [answer, &shown] {
            assert_eq!((answer.status, answer.text("status")), (200, status), "{answer:?}");
            assert_eq!(answer.body["accountSeq"], seq, "{answer:?}");
            assert_eq!(
                (answer.text("idempotencyKey"), answer.text("requestedBy")),
                (&**key, caller)
            );
        }
        assert_eq!(answer.body, shown.body);
    }
    let pending = ann.movement("deposits", &account, "5", &new_key(), None).await;
    assert!(pending.body["accountSeq"].is_null() && pending.status == 202, "{pending:?}");
}

#[tokio::test]
async fn a_deposit_is_accepted_at_once_and_settles_later() {
    let client = Client::teller(Stack::shared().await);
    let account = client.open_account("KRW").await;
    let accepted = client.movement("deposits", &account, "10000", &new_key(), None).await;
    assert_eq!((accepted.status, accepted.text("status")), (202, "PENDING"));
    let record = accepted.text("recordId");
    assert_eq!(accepted.header("location"), Some(format!("/v1/records/{record}").as_str()));
    let settled = client.settled(record).await;
    assert_eq!((settled.text("status"), settled.text("balanceAfter")), ("SUCCESS", "10000"));
    assert!(accepted.body["transactionId"].is_null());
    let transaction = TransactionId::of(record.parse().unwrap());
    assert_eq!(settled.text("transactionId"), transaction.to_string());
    assert!(settled.body["reason"].is_null());
    assert!(settled.text("updatedAt") >= settled.text("createdAt"));
}

#[tokio::test]
async fn records_are_paged_newest_first() {
    let client = Client::teller(Stack::shared().await);
    let account = client.open_account("KRW").await;
    let mut expected_ids = Vec::new();
    for amount in 1..=7 {
        let deposit = client.deposit(&account, &amount.to_string()).await;
        expected_ids.push(deposit.text("recordId").to_owned());
    }
    expected_ids.reverse();
    let mut seen = Vec::new();
    let mut path = format!("/v1/accounts/{account}/records?limit=3");
    for expected in [3, 3, 1] {
        let page = client.get(&path).await;
        let items = page.body["items"].as_array().unwrap();
        assert_eq!(items.len(), expected, "{page:?}");
        seen.extend(items.iter().map(|item| item["recordId"].as_str().unwrap().to_owned()));
        path = format!(
            "/v1/accounts/{account}/records?limit=3&cursor={}",
            page.body["nextCursor"].as_str().unwrap_or("end")
        );
    }
    assert_eq!(seen, expected_ids);
    assert!(path.ends_with("cursor=end"), "the last page has a cursor");
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 7);
}

#[tokio::test]
async fn a_teller_opens_an_account_for_its_owner() {
    let stack = Stack::shared().await;
    let (teller, eve) = (Client::teller(stack), Client::customer(stack, "eve"));
    let (key, body) = (new_key(), json!({ "currency": "KRW", "ownerId": "eve" }));
    let open = |client: Client, key: String, body: Value| async move {
        client.post("/v1/accounts", &[("idempotency-key", &key)], &body).await
    };
    let account = open(teller.clone(), key.clone(), body.clone()).await;
    assert_eq!((account.status, account.text("ownerId")), (201, "eve"), "{account:?}");
    assert_eq!(eve.account(account.text("accountId")).await.text("balance"), "0");
    // The owner is a part of the request.
    let other = json!({ "currency": "KRW", "ownerId": "adam" });
    let reused = open(teller.clone(), key, other.clone()).await;
    assert_eq!((reused.status, reused.problem()), (422, "idempotency-key-reused"));
    // A customer opens their own only, and may say so.
    assert_eq!(open(eve.clone(), new_key(), body).await.status, 201);
    assert_eq!(open(eve, new_key(), other).await.status, 403);
    let odd = open(teller, new_key(), json!({ "currency": "KRW", "ownerId": "two words" })).await;
    assert_eq!((odd.status, odd.problem(), odd.text("field")), (422, "invalid-field", "ownerId"));
}
