//! The account-service's store: each PENDING record is found, whatever its id, and whenever
//! its transaction ends.

use std::{ops::Range, time::Duration};

use account_service::store::{
    Leave, claim_for_redrive, fence, find_window, leave, list_early, read_list,
};
use contract::RecordId;
use runtime::postgres::PgPool;
use sqlx::PgExecutor;
use tests::Stack;
use uuid::Uuid;

use super::impatient;

const AFTER: Duration = Duration::from_secs(5);
const ALL: (u32, u16) = (1000, 1000);

fn id(number: u128) -> RecordId {
    RecordId::from_uuid(Uuid::from_u128(number))
}

fn ids(range: Range<u128>) -> Range<RecordId> {
    id(range.start)..id(range.end)
}

async fn insert(database: impl PgExecutor<'_>, record: u128, status: &str) {
    sqlx::query(
        "INSERT INTO transaction_records (id, account_id, idempotency_key, request_hash, user_id,
             type, amount, currency, status, transaction_id, balance_after)
         SELECT $1, $1, $1::text, '', 'one', 'DEPOSIT', 100, 'KRW', $2,
             CASE $2 WHEN 'SUCCESS' THEN 1 END, CASE $2 WHEN 'SUCCESS' THEN 100 END",
    )
    .bind(Uuid::from_u128(record))
    .bind(status)
    .execute(database)
    .await
    .unwrap();
}

async fn move_window(accounts: &PgPool, next: Range<u128>) -> Leave {
    let inside = find_window(accounts).await.unwrap().window.inside;
    leave(accounts, &inside, &ids(next), AFTER, 10).await.unwrap()
}

async fn listed(accounts: &PgPool) -> Vec<u128> {
    let ids: Vec<Uuid> =
        sqlx::query_scalar("SELECT record_id FROM pending_records ORDER BY record_id")
            .fetch_all(accounts)
            .await
            .unwrap();
    ids.into_iter().map(|id| id.as_u128()).collect()
}

async fn execute(accounts: &PgPool, statement: &'static str) {
    sqlx::raw_sql(statement).execute(accounts).await.unwrap();
}

#[tokio::test]
async fn the_list_has_each_pending_record_outside_the_window() {
    let stack = Stack::start_servers("window-of-the-redrive").await;
    let accounts = stack.accounts().await;
    // Rows of an earlier release, more than one round reads. All ids are inside at first.
    for record in 1..=25 {
        insert(&accounts, record, if record % 10 == 5 { "PENDING" } else { "SUCCESS" }).await;
    }
    assert_eq!(listed(&accounts).await, []);
    assert_eq!(move_window(&accounts, 100..200).await, Leave::Moved);
    let chunks = [Leave::More, Leave::More, Leave::Moved];
    for chunk in chunks {
        assert_eq!(move_window(&accounts, 110..210).await, chunk);
    }
    assert_eq!(listed(&accounts).await, [5, 15, 25]);

    // An id outside is listed at once, if it is PENDING.
    for (record, status) in [(50, "PENDING"), (51, "SUCCESS"), (150, "PENDING"), (210, "PENDING")] {
        insert(&accounts, record, status).await;
    }
    assert_eq!(listed(&accounts).await, [5, 15, 25, 50, 210]);
    // An id inside is listed once the window has left it: forward, back, or far away.
    assert_eq!(move_window(&accounts, 160..260).await, Leave::Moved);
    assert_eq!(listed(&accounts).await, [5, 15, 25, 50, 210]);
    insert(&accounts, 170, "PENDING").await;
    assert_eq!(move_window(&accounts, 20..120).await, Leave::Moved);
    assert_eq!(listed(&accounts).await, [5, 15, 25, 50, 150, 210]);
    insert(&accounts, 30, "PENDING").await;
    assert_eq!(move_window(&accounts, 1000..1100).await, Leave::Moved);
    assert_eq!(listed(&accounts).await, [5, 15, 25, 50, 150, 170, 210]);
    assert_eq!(move_window(&accounts, 1000..1100).await, Leave::Moved);
    assert_eq!(listed(&accounts).await, [5, 15, 25, 30, 50, 150, 170, 210]);

    // If the window can't move, its records are listed all the same, however many there are.
    for record in 1001..=1025 {
        insert(&accounts, record, if record == 1025 { "PENDING" } else { "SUCCESS" }).await;
    }
    let early = async |from| {
        let window = find_window(&accounts).await.unwrap().window;
        list_early(&accounts, &window, from, 10).await.unwrap()
    };
    let unmoved = "UPDATE redrive_window SET moved_at = now() - interval '7 hours'";
    execute(&accounts, unmoved).await;
    assert_eq!(early(RecordId::FIRST).await, id(1011));
    assert_eq!(early(id(1011)).await, id(1021));
    assert!(!listed(&accounts).await.contains(&1025));
    assert_eq!(early(id(1021)).await, RecordId::FIRST);
    assert!(listed(&accounts).await.contains(&1025));
    // A window that is looked after stays as it is, so that new ids are listed at once.
    for record in [4000, 4001] {
        insert(&accounts, record, "PENDING").await;
        assert!(listed(&accounts).await.contains(&record));
    }

    // Nothing has moved the window for long: it is opened, so that the list does not grow.
    execute(&accounts, unmoved).await;
    insert(&accounts, 5000, "PENDING").await;
    insert(&accounts, 5001, "PENDING").await;
    let rows = listed(&accounts).await;
    assert!(rows.contains(&5000) && !rows.contains(&5001), "{rows:?}");
    for next in [1000..1100, 1010..1110] {
        assert_eq!(move_window(&accounts, next).await, Leave::Moved);
    }
    assert!(listed(&accounts).await.contains(&5001));

    // Settled records leave the list, and so do records that are gone.
    execute(
        &accounts,
        "UPDATE transaction_records SET status = 'SUCCESS', transaction_id = 1, balance_after = 1
         WHERE id < '00000000-0000-0000-0000-0000000000b0';
         DELETE FROM transaction_records WHERE id < '00000000-0000-0000-0000-000000000010'",
    )
    .await;
    let first = read_list(&accounts, RecordId::FIRST, AFTER, ALL).await.unwrap();
    assert_eq!(listed(&accounts).await, [210, 1025, 4000, 4001, 5000, 5001]);
    assert_eq!(first.next, None);
}

/// The trigger of a transaction may read the window before it moves, and the transaction may be
/// committed afterwards.
#[tokio::test]
async fn a_record_committed_after_the_window_moved_is_waited_for() {
    let stack = Stack::start_servers("late-commits").await;
    let (accounts, other) = (stack.accounts().await, stack.accounts().await);
    let mut late = other.begin().await.unwrap();
    insert(&mut *late, 50, "PENDING").await;
    assert_eq!(move_window(&accounts, 100..200).await, Leave::Moved);
    let fence = fence(&accounts).await.unwrap();
    let view = find_window(&accounts).await.unwrap();
    assert!(view.ended_below < fence, "the insert is still going on");
    late.commit().await.unwrap();
    let view = find_window(&accounts).await.unwrap();
    assert!(view.ended_below >= fence, "{view:?}");
    assert_eq!(move_window(&accounts, 110..210).await, Leave::Moved);
    assert_eq!(listed(&accounts).await, [50]);
}

#[tokio::test]
async fn times_of_a_clock_that_was_ahead_delay_no_redrive() {
    let stack = Stack::start_servers("times-ahead").await;
    let accounts = stack.accounts().await;
    move_window(&accounts, 100..200).await;
    for record in 1..=5 {
        insert(&accounts, record, "PENDING").await;
    }
    let due = async || read_list(&accounts, RecordId::FIRST, AFTER, ALL).await.unwrap().due;
    // Just accepted.
    assert_eq!(due().await, []);
    // Listed, or scheduled, by a clock that was a day ahead; not due yet; due.
    execute(
        &accounts,
        "UPDATE pending_records SET listed_at = now() - interval '10 seconds';
         UPDATE pending_records SET listed_at = now() + interval '1 day'
         WHERE record_id = '00000000-0000-0000-0000-000000000001';
         UPDATE transaction_records SET redrives = 1, redrive_at = now() + interval '1 day'
         WHERE id = '00000000-0000-0000-0000-000000000002';
         UPDATE transaction_records SET redrives = 8, redrive_at = now() + interval '10 minutes'
         WHERE id = '00000000-0000-0000-0000-000000000003';
         UPDATE transaction_records SET redrives = 8, redrive_at = now() - interval '1 second'
         WHERE id = '00000000-0000-0000-0000-000000000004'",
    )
    .await;
    let due = due().await;
    assert_eq!(due, [1, 2, 4, 5].map(id));
    let part = read_list(&accounts, RecordId::FIRST, AFTER, (1000, 2)).await.unwrap();
    assert_eq!((part.due, part.count, part.next), ([1, 2].map(id).to_vec(), 2, Some(id(3))));
    let claimed = claim_for_redrive(&accounts, &due, AFTER).await.unwrap();
    assert_eq!(claimed.len(), 4);
    let later: bool = sqlx::query_scalar(
        "SELECT bool_and(redrive_at BETWEEN now() + interval '3 seconds'
                                        AND now() + interval '751 seconds')
         FROM transaction_records",
    )
    .fetch_one(&accounts)
    .await
    .unwrap();
    assert!(later, "each is due again after its own delay");
    let rest = read_list(&accounts, RecordId::FIRST, AFTER, ALL).await.unwrap();
    assert_eq!((rest.due.len(), rest.count), (0, 5));
}

/// Such as a person's transaction in `psql`.
#[tokio::test]
async fn a_listed_row_that_another_transaction_holds_delays_no_redrive() {
    let stack = Stack::start_servers("held-list").await;
    let (accounts, holder) = (impatient(&stack.file().databases.account), stack.accounts().await);
    move_window(&accounts, 100..200).await;
    for record in [1, 2, 3, 150] {
        insert(&accounts, record, "PENDING").await;
    }
    execute(
        &accounts,
        "UPDATE pending_records SET listed_at = now() - interval '10 seconds';
         UPDATE transaction_records SET status = 'SUCCESS', transaction_id = 1, balance_after = 1
         WHERE id < '00000000-0000-0000-0000-000000000003'",
    )
    .await;
    let mut hold = holder.begin().await.unwrap();
    let row = "SELECT FROM pending_records WHERE record_id = $1 FOR UPDATE";
    sqlx::query(row).bind(Uuid::from_u128(1)).fetch_all(&mut *hold).await.unwrap();
    let read = async || read_list(&accounts, RecordId::FIRST, AFTER, ALL).await.unwrap().due;
    assert_eq!(read().await, [id(3)]);
    assert_eq!(listed(&accounts).await, [1, 3]);
    hold.rollback().await.unwrap();
    read().await;
    assert_eq!(listed(&accounts).await, [3]);

    // The row of a record that is listed again is being deleted.
    let window = find_window(&accounts).await.unwrap().window;
    list_early(&accounts, &window, RecordId::FIRST, 10).await.unwrap();
    let mut hold = holder.begin().await.unwrap();
    sqlx::query("DELETE FROM pending_records").execute(&mut *hold).await.unwrap();
    list_early(&accounts, &window, RecordId::FIRST, 10).await.unwrap();
    assert_eq!(move_window(&accounts, 110..210).await, Leave::Moved);
    assert_eq!(move_window(&accounts, 300..400).await, Leave::Moved);
    assert_eq!(move_window(&accounts, 300..400).await, Leave::Moved);
    hold.rollback().await.unwrap();
    assert_eq!(listed(&accounts).await, [3, 150]);
}
