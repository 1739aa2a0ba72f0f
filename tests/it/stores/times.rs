//! The times of entries: an account's entries and refusals are never older than its
//! entries before them, whatever the writers wait for.

use contract::{AccountId, Command, Kind, RecordId};
use runtime::postgres::PgPool;
use tests::{Stack, eventually};
use time::OffsetDateTime;
use transaction_service::store::Ledger;

use super::{PATIENCE, account_row, apply::command, patient};

fn deposit(account: AccountId) -> Command {
    command(RecordId::new(), account, Kind::Deposit, 10)
}

fn refused(account: AccountId) -> Command {
    command(RecordId::new(), account, Kind::Withdrawal, 1_000_000)
}

/// The times of the account's transactions, in the order in which they were decided.
async fn times(ledger: &PgPool, account: AccountId) -> Vec<OffsetDateTime> {
    sqlx::query_scalar("SELECT created_at FROM transactions WHERE account_id = $1 ORDER BY id")
        .bind(account.as_uuid())
        .fetch_all(ledger)
        .await
        .unwrap()
}

/// The times when the ledger first saw the account, and when it last moved.
async fn account_times(ledger: &PgPool, account: AccountId) -> (OffsetDateTime, OffsetDateTime) {
    sqlx::query_as("SELECT created_at, updated_at FROM accounts WHERE account_id = $1")
        .bind(account.as_uuid())
        .fetch_one(ledger)
        .await
        .unwrap()
}

async fn lock_waits(ledger: &PgPool) -> i64 {
    sqlx::query_scalar(
        "SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND wait_event_type = 'Lock'",
    )
    .fetch_one(ledger)
    .await
    .unwrap()
}

/// A batch begins first, and waits for an account before it reaches the other one. A
/// second batch moves that account meanwhile.
#[tokio::test]
async fn a_batch_that_waits_gives_its_entries_later_times() {
    let stack = Stack::start_servers("times-of-batches-that-wait").await;
    let (pool, other) = (stack.ledger().await, patient(&stack.file().databases.transaction));
    let ledger = Ledger::new(pool.clone());
    // Accounts are locked in the order of their ids.
    let mut accounts = [AccountId::new(), AccountId::new()];
    accounts.sort();
    let [first, second] = accounts;
    ledger.apply(&[deposit(first), deposit(second)]).await.unwrap();
    let twice = deposit(second);
    for (path, batch) in [
        ("one statement", vec![deposit(first), deposit(second)]),
        ("a transaction", vec![deposit(first), twice.clone(), twice]),
        ("a refusal", vec![refused(first), refused(second)]),
        ("a refusal after a move", vec![deposit(first), refused(second), deposit(second)]),
    ] {
        let mut holder = pool.begin().await.unwrap();
        sqlx::query("SELECT FROM accounts WHERE account_id = $1 FOR UPDATE")
            .bind(first.as_uuid())
            .execute(&mut *holder)
            .await
            .unwrap();
        let waiting = Ledger::new(other.clone());
        let (results, ()) = tokio::join!(waiting.apply(&batch), async {
            eventually("the batch waits", PATIENCE, || async {
                (lock_waits(&pool).await == 1).then_some(())
            })
            .await;
            ledger.apply(&[deposit(second)]).await.unwrap();
            holder.commit().await.unwrap();
        });
        let results = results.unwrap();
        let times = times(&pool, second).await;
        assert!(times.is_sorted(), "{path}: {times:?}");
        let (created_at, updated_at) = account_times(&pool, second).await;
        assert!(created_at <= times[0] && updated_at <= *times.last().unwrap(), "{path}");
        let last = results.last().unwrap().as_ref().unwrap();
        assert_eq!(last.processed_at, *times.last().unwrap(), "{path}");
    }
}

#[tokio::test]
async fn a_clock_that_is_set_back_does_not_turn_the_order_of_times() {
    let stack = Stack::start_servers("times-of-a-clock-set-back").await;
    let pool = stack.ledger().await;
    let ledger = Ledger::new(pool.clone());
    let account = AccountId::new();
    ledger.apply(&[deposit(account)]).await.unwrap();
    // As if the clock had been an hour ahead.
    for ahead in [
        "UPDATE accounts SET updated_at = updated_at + interval '1 hour'",
        "UPDATE transactions SET created_at = created_at + interval '1 hour'",
    ] {
        sqlx::query(ahead).execute(&pool).await.unwrap();
    }
    let twice = deposit(account);
    for batch in [
        vec![deposit(account)],
        vec![twice.clone(), twice],
        vec![refused(account)],
        vec![deposit(account), deposit(account), refused(account)],
    ] {
        ledger.apply(&batch).await.unwrap();
        let times = times(&pool, account).await;
        assert!(times.is_sorted(), "{times:?}");
        assert_eq!(account_times(&pool, account).await.1, times[0]);
    }
    assert_eq!(account_row(&pool, account).await, (50.into(), 5));
}
