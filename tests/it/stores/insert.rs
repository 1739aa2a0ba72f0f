//! The account-service's store: a batch of new records.

use account_service::{
    record::NewRecord,
    store::{Accepted, StoreError, insert_free},
};
use contract::{AccountId, Amount, Kind, RecordId, UserId};
use runtime::{http::idempotency_key::IdempotencyKey, telemetry::trace::Trace};
use tests::{Stack, client::new_key};

use super::krw;

fn deposit(account: AccountId) -> NewRecord {
    NewRecord {
        id: RecordId::new(),
        account_id: account,
        key: IdempotencyKey::parse(&new_key()).unwrap(),
        user_id: UserId::try_from("one".to_owned()).unwrap(),
        kind: Kind::Deposit,
        amount: Amount::from_decimal(100.into(), krw()).unwrap(),
        currency: krw(),
    }
}

#[tokio::test]
async fn an_unreadable_record_of_a_taken_key_fails_its_own_request_only() {
    let stack = Stack::start_servers("unreadable-record").await;
    let accounts = stack.accounts().await;
    let account = AccountId::new();
    let taken = [deposit(account), deposit(account)];
    let trace = Trace::begin();
    insert_free(&accounts, &taken, &[trace; 2]).await.unwrap();
    sqlx::query("UPDATE transaction_records SET currency = 'none' WHERE id = $1")
        .bind(taken[0].id.as_uuid())
        .execute(&accounts)
        .await
        .unwrap();
    let again = taken.map(|record| NewRecord { id: RecordId::new(), ..record });
    let [unreadable, readable] = again;
    let batch = [deposit(account), unreadable, readable, deposit(account)];
    let outcomes = insert_free(&accounts, &batch, &[trace; 4]).await.unwrap();
    assert!(
        matches!(
            outcomes[..],
            [
                Ok(Accepted::New(_)),
                Err(StoreError::InvalidRow(_)),
                Ok(Accepted::Replayed(_)),
                Ok(Accepted::New(_))
            ]
        ),
        "{outcomes:?}"
    );
}
