//! The views that reports read.

use std::time::{Duration, SystemTime};

use contract::{AccountId, RecordId};
use tests::Stack;
use time::OffsetDateTime;
use uuid::Uuid;

/// PostgreSQL 15 has no function for the time in an id, so the view computes it.
#[tokio::test]
async fn a_request_has_the_time_of_its_record_id_if_that_is_plausible() {
    const HOUR: Duration = Duration::from_secs(3_600);
    let stack = Stack::start_servers("views-of-request-times").await;
    let ledger = stack.ledger().await;
    let now = SystemTime::now();
    let at = |time| Uuid::from_u128(RecordId::lowest_at(time).as_uuid().as_u128() | 0xffff);
    let (year_2020, day) = (Duration::from_secs(1_577_836_800), 24 * HOUR);
    for (seq, (id, is_plausible)) in (1_i64..).zip([
        (Uuid::now_v7(), true),
        (at(now - 1_000 * day), true),
        (at(now + HOUR / 2), true),
        (at(now + 2 * HOUR), false),
        (at(SystemTime::UNIX_EPOCH + year_2020), true),
        (at(SystemTime::UNIX_EPOCH + year_2020 - Duration::from_millis(1)), false),
        (Uuid::from_u128(u128::MAX), false),
        (Uuid::nil(), false),
        // A random id, with a plausible time in its first bits.
        (Uuid::from_u128(at(now).as_u128() ^ (3 << 76)), false),
    ]) {
        sqlx::query(
            "INSERT INTO transactions (record_id, account_id, type, amount, currency, status,
                 balance_after, account_seq)
             VALUES ($1, $2, 'DEPOSIT', 1, 'KRW', 'SUCCESS', 1, $3)",
        )
        .bind(id)
        .bind(AccountId::new().as_uuid())
        .bind(seq)
        .execute(&ledger)
        .await
        .unwrap();
        let requested_at: Option<OffsetDateTime> = sqlx::query_scalar(
            "SELECT requested_at FROM reporting.transactions WHERE record_id = $1",
        )
        .bind(id)
        .fetch_one(&ledger)
        .await
        .unwrap();
        let expected = is_plausible.then(|| RecordId::from_uuid(id).made_at().into());
        assert_eq!(requested_at, expected, "{id}");
    }
}
