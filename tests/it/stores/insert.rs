//! The account-service's store: a batch of new records.

use account_service::{
    labels::Labels,
    record::NewRecord,
    store::{Accepted, StoreError, insert_free},
};
use contract::{AccountId, Amount, Kind, RecordId, UserId};
use runtime::{
    http::idempotency_key::IdempotencyKey, postgres::CallError, telemetry::trace::Trace,
};
use tests::{Stack, client::new_key};

use super::krw;

fn deposit(account: AccountId) -> NewRecord {
    NewRecord {
        id: RecordId::new(),
        account_id: account,
        key: IdempotencyKey::parse(&new_key()).unwrap(),
        user_id: UserId::try_from("one".to_owned()).unwrap(),
        api_key: None,
        kind: Kind::Deposit,
        amount: Amount::from_decimal(100.into(), krw()).unwrap(),
        currency: krw(),
        labels: Labels::default(),
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

/// The deposit of another caller under the same key.
fn by(caller: &str, record: &NewRecord) -> NewRecord {
    let user_id = UserId::try_from(caller.to_owned()).unwrap();
    NewRecord { id: RecordId::new(), user_id, ..record.clone() }
}

#[tokio::test]
async fn callers_with_one_key_in_one_batch_get_a_record_each() {
    let stack = Stack::start_servers("callers-of-a-key").await;
    let accounts = stack.accounts().await;
    let first = deposit(AccountId::new());
    let dearer = Amount::from_decimal(101.into(), krw()).unwrap();
    let other = NewRecord { amount: dearer, ..by("two", &first) };
    let batch =
        [first.clone(), by("two", &first), by("three", &first), by("two", &first), other.clone()];
    let trace = Trace::begin();
    let outcomes = insert_free(&accounts, &batch, &[trace; 5]).await.unwrap();
    let [
        Ok(Accepted::New(one)),
        Ok(Accepted::New(two)),
        Ok(Accepted::New(three)),
        Ok(Accepted::Replayed(again)),
        Ok(Accepted::KeyReused),
    ] = &outcomes[..]
    else {
        panic!("{outcomes:?}");
    };
    assert_eq!(
        [one.id, two.id, three.id, again.id],
        [batch[0].id, batch[1].id, batch[2].id, two.id]
    );
    assert_eq!(again.key, first.key.as_str());
    // In any order, and beside others.
    let again =
        [by("three", &first), deposit(AccountId::new()), by("one", &first), by("two", &other)];
    let outcomes = insert_free(&accounts, &again, &[trace; 4]).await.unwrap();
    let [
        Ok(Accepted::Replayed(third)),
        Ok(Accepted::New(_)),
        Ok(Accepted::Replayed(first)),
        Ok(Accepted::KeyReused),
    ] = &outcomes[..]
    else {
        panic!("{outcomes:?}");
    };
    assert_eq!([third.id, first.id], [batch[2].id, batch[0].id]);

    // A replica of an earlier release finds the key taken, whoever asks.
    let inserted = sqlx::query(
        "INSERT INTO transaction_records
             (id, account_id, idempotency_key, request_hash, user_id, type, amount, currency)
         SELECT gen_random_uuid(), account_id, idempotency_key, '', caller, type, amount, currency
         FROM transaction_records, unnest(ARRAY['one', 'two', 'four']) AS caller WHERE id = $1
         ON CONFLICT (account_id, idempotency_key) DO NOTHING",
    )
    .bind(first.id.as_uuid())
    .execute(&accounts)
    .await
    .unwrap();
    assert_eq!(inserted.rows_affected(), 0);
}

#[tokio::test]
async fn a_callers_key_that_another_transaction_inserts_delays_only_its_own_request() {
    let stack = Stack::start_servers("callers-key-locks").await;
    let accounts = stack.accounts().await;
    let trace = Trace::begin();
    let first = deposit(AccountId::new());
    insert_free(&accounts, std::slice::from_ref(&first), &[trace]).await.unwrap();
    let mut holder = accounts.begin().await.unwrap();
    sqlx::query(
        "INSERT INTO transaction_records
             (id, account_id, idempotency_key, request_hash, user_id, type, amount, currency)
         SELECT gen_random_uuid(), account_id, idempotency_key || ' two', '', 'two', type, amount,
             currency
         FROM transaction_records WHERE id = $1",
    )
    .bind(first.id.as_uuid())
    .execute(&mut *holder)
    .await
    .unwrap();
    let batch = [deposit(AccountId::new()), by("two", &first), by("one", &first)];
    let outcomes = insert_free(&accounts, &batch, &[trace; 3]).await.unwrap();
    let [Ok(Accepted::New(_)), Err(locked), Ok(Accepted::Replayed(_))] = &outcomes[..] else {
        panic!("{outcomes:?}");
    };
    assert!(locked.is_locked() && locked.stored_nothing(), "{locked:?}");
    holder.rollback().await.unwrap();
    let outcomes = insert_free(&accounts, &batch[1..2], &[trace]).await.unwrap();
    assert!(matches!(outcomes[..], [Ok(Accepted::New(_))]), "{outcomes:?}");
}
