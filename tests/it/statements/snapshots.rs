//! A period is read when it is final: no transaction can still add an entry to it.

use std::time::Duration;

use contract::AccountId;
use reporting::{Ledger, LedgerError, Period};
use runtime::postgres::{PgPool, PgTransaction};
use tests::{Stack, eventually};
use time::OffsetDateTime;

use super::fixture::{Books, period, unopened};

/// A writer that has applied one deposit of 10, and not committed it. It also gives the
/// time of the deposit.
async fn uncommitted_deposit(pool: &PgPool, account: AccountId) -> (PgTransaction, OffsetDateTime) {
    let mut writer = pool.begin().await.unwrap();
    let at = sqlx::query_scalar(
        "WITH account AS (
             INSERT INTO accounts (account_id, currency, balance, account_seq, updated_at)
             VALUES ($1, 'KRW', 10, 1, clock_timestamp())
             ON CONFLICT (account_id) DO UPDATE SET balance = accounts.balance + 10,
                 account_seq = accounts.account_seq + 1, updated_at = clock_timestamp()
             RETURNING *
         )
         INSERT INTO transactions (record_id, account_id, type, amount, currency, status,
             balance_after, account_seq, created_at)
         SELECT gen_random_uuid(), account_id, 'DEPOSIT', 10, currency, 'SUCCESS', balance,
             account_seq, updated_at
         FROM account RETURNING created_at",
    )
    .bind(account.as_uuid())
    .fetch_one(&mut *writer)
    .await
    .unwrap();
    (writer, at)
}

/// Waits until a report has looked for writers.
async fn report_waits(pool: &PgPool) {
    eventually("a report waits for writers", Duration::from_secs(10), || async {
        let waiting: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM pg_stat_activity
             WHERE application_name = 'report-service' AND query LIKE '%reporting.writers%')",
        )
        .fetch_one(pool)
        .await
        .unwrap();
        waiting.then_some(())
    })
    .await;
}

fn until(at: OffsetDateTime) -> Period {
    let end = at + time::Duration::microseconds(1);
    let from = (at - time::Duration::days(1)).date();
    let format = &time::format_description::well_known::Rfc3339;
    period(&from.to_string(), &end.format(format).unwrap(), "UTC")
}

#[tokio::test]
async fn a_statement_waits_for_transactions_with_times_in_its_period() {
    let stack = Stack::start_servers("statement-waits").await;
    let (books, pool) = (Books::of(&stack).await, stack.ledger().await);
    let info = unopened("KRW");
    let (first, _) = uncommitted_deposit(&pool, info.account_id).await;
    first.commit().await.unwrap();
    let (writer, at) = uncommitted_deposit(&pool, info.account_id).await;
    let period = until(at);
    let (made, later) = tokio::join!(books.statement(&info, &period), async {
        report_waits(&pool).await;
        // A writer that begins now has a later time: the statement does not wait for it.
        let later = uncommitted_deposit(&pool, AccountId::new()).await;
        writer.commit().await.unwrap();
        later
    });
    let (statement, entries) = made.unwrap();
    assert_eq!((statement.closing.account_seq, entries.len()), (2, 2));
    drop(later);
    // The same statement, made later.
    assert_eq!(books.statement(&info, &period).await.unwrap(), (statement, entries));
}

#[tokio::test]
async fn a_writer_that_does_not_end_makes_a_period_unavailable_not_wrong() {
    let stack = Stack::start_servers("statement-of-an-open-period").await;
    let pool = stack.ledger().await;
    let ledger = Ledger::new(&stack.file().databases.transaction).unwrap();
    let (writer, at) = uncommitted_deposit(&pool, AccountId::new()).await;
    let patience = Duration::from_millis(300);
    let error = ledger.snapshot(until(at).to(), patience).await.unwrap_err();
    let LedgerError::NotFinal { reason, waited, .. } = &error else { panic!("{error}") };
    assert!(reason.contains("still running") && *waited >= patience, "{error}");
    writer.rollback().await.unwrap();
    ledger.snapshot(until(at).to(), patience).await.unwrap();
    // The end of the period has not come on the database's clock.
    let future = OffsetDateTime::now_utc() + time::Duration::hours(1);
    let error = ledger.snapshot(future, patience).await.unwrap_err();
    assert!(error.to_string().contains("clock"), "{error}");
}

#[tokio::test]
async fn the_ledger_can_be_read_but_not_written() {
    let stack = Stack::start_servers("statement-reads-only").await;
    let ledger = Ledger::new(&stack.file().databases.transaction).unwrap();
    ledger.probe().await.unwrap();
    let mut snapshot = ledger.current().await.unwrap();
    let write = "INSERT INTO accounts (account_id, currency) VALUES (gen_random_uuid(), 'KRW')";
    let error = sqlx::query(write).execute(&mut *snapshot).await.unwrap_err();
    assert!(error.to_string().contains("read-only"), "{error}");
}
