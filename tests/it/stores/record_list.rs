//! The account-service's store: a filter without an index over a long history.

use std::time::Instant;

use account_service::{
    record::Status,
    store::{RecordFilter, list_records},
};
use contract::AccountId;
use tests::Stack;
use time::{Duration, OffsetDateTime};

const RECORDS: i32 = 12_000;

#[tokio::test]
async fn a_page_reads_a_bounded_part_of_a_long_history() {
    let stack = Stack::start_servers("long-list").await;
    let accounts = stack.accounts().await;
    let account = AccountId::new();
    // A record a second. The oldest one and the newest one failed.
    sqlx::query(
        "INSERT INTO transaction_records (id, account_id, idempotency_key, request_hash, user_id,
             type, amount, currency, status, transaction_id, reason, balance_after, created_at,
             updated_at)
         SELECT overlay(overlay(gen_random_uuid()::text PLACING
                    substr(lpad(to_hex(extract(epoch FROM at)::bigint * 1000), 12, '0'), 1, 8) || '-'
                    || substr(lpad(to_hex(extract(epoch FROM at)::bigint * 1000), 12, '0'), 9, 4)
                    FROM 1) PLACING '7' FROM 15)::uuid,
             $1, n::text, '', 'one', 'DEPOSIT', 1, 'KRW',
             CASE WHEN n IN (1, $2) THEN 'FAILED' ELSE 'SUCCESS' END, n,
             CASE WHEN n IN (1, $2) THEN 'BALANCE_LIMIT_EXCEEDED' END,
             CASE WHEN n NOT IN (1, $2) THEN n END, at, at
         FROM (SELECT n, date_trunc('second', now()) - ($2 - n) * interval '1 second' AS at
               FROM generate_series(1, $2) AS n) AS history",
    )
    .bind(account.as_uuid())
    .bind(RECORDS)
    .execute(&accounts)
    .await
    .unwrap();
    let failed = RecordFilter { status: Some(Status::Failed), ..RecordFilter::default() };
    let begun = Instant::now();
    let (mut found, mut parts, mut before) = (Vec::new(), 0, None);
    loop {
        let part = list_records(&accounts, account, &failed, before, 21).await.unwrap();
        parts += 1;
        found.extend(part.records);
        before = part.read_to;
        if before.is_none() {
            break;
        }
    }
    println!("{RECORDS} records in {parts} parts: {:?}", begun.elapsed());
    let seqs: Vec<_> = found.iter().map(|record| record.key.as_str()).collect();
    assert_eq!((seqs, parts), (vec!["12000", "1"], 3));

    // Times are found by the ids: in one part, wherever they are in the history.
    let now = OffsetDateTime::now_utc();
    let from = now - Duration::seconds(10_010);
    let past = RecordFilter {
        from: Some(from),
        to: Some(now - Duration::seconds(10_000)),
        ..RecordFilter::default()
    };
    let part = list_records(&accounts, account, &past, None, 21).await.unwrap();
    assert_eq!((part.records.len(), part.read_to), (10, None));
    assert!(part.records.iter().all(|record| record.created_at >= from));
    // Without a filter, a page has its limit, and its last item is its end.
    let all = RecordFilter::default();
    let page = list_records(&accounts, account, &all, None, 21).await.unwrap();
    assert_eq!((page.records.len(), page.read_to), (21, None));
}
