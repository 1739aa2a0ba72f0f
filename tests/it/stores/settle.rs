//! Results of one batch, and what they do to records and the balances shown.

use account_service::{
    record::Contradiction,
    store::{Settling, Times, settle},
};
use contract::{AccountId, Amount, Currency, Kind, MovementResult, Outcome, Reason, RecordId};
use rust_decimal::Decimal;
use sqlx::PgPool;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{balance, databases, krw, shown};

/// A result that applies a deposit of 100 KRW.
fn deposited(account: AccountId, record: RecordId, account_seq: i64) -> MovementResult {
    MovementResult {
        record_id: record,
        transaction_id: 1000 + account_seq,
        account_id: account,
        kind: Kind::Deposit,
        amount: Amount::from_decimal(100.into(), krw()).unwrap(),
        currency: krw(),
        outcome: Outcome::Applied { balance_after: balance(100 * account_seq), account_seq },
        processed_at: OffsetDateTime::UNIX_EPOCH,
    }
}

async fn opened(accounts: &PgPool) -> AccountId {
    let account = Uuid::now_v7();
    sqlx::query("INSERT INTO accounts (account_id, owner_id, currency) VALUES ($1, 'one', 'KRW')")
        .bind(account)
        .execute(accounts)
        .await
        .unwrap();
    AccountId::from_uuid(account)
}

/// A PENDING deposit of 100 KRW, accepted by a clock that is ahead.
async fn accepted(accounts: &PgPool, account: AccountId) -> RecordId {
    let record = RecordId::new();
    sqlx::query(
        "INSERT INTO transaction_records (id, account_id, idempotency_key, request_hash, user_id,
             type, amount, currency, created_at, updated_at)
         SELECT $1, $2, $1::text, '', 'one', 'DEPOSIT', 100, 'KRW', at, at
         FROM (SELECT now() + interval '1 minute') AS clock (at)",
    )
    .bind(record.as_uuid())
    .bind(account.as_uuid())
    .execute(accounts)
    .await
    .unwrap();
    record
}

/// Settled, whenever that was.
const EPOCH: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;
const NOW: Settling = Settling::Settled(Times { accepted: EPOCH, settled: EPOCH });

/// What becomes of results.
async fn settled(accounts: &PgPool, results: &[MovementResult]) -> Vec<Settling> {
    let became = settle(accounts, results).await.unwrap();
    let whenever = |it| if matches!(it, Settling::Settled(_)) { NOW } else { it };
    became.into_iter().map(whenever).collect()
}

#[tokio::test]
async fn results_in_one_batch_settle_as_they_do_in_sequence() {
    use Settling::{Already, Refused, Unknown};
    let stack = databases("batches-of-results").await;
    let accounts = stack.accounts().await;
    let account = opened(&accounts).await;
    let other = opened(&accounts).await;
    let [first, second, third, fourth] = [
        accepted(&accounts, account).await,
        accepted(&accounts, account).await,
        accepted(&accounts, account).await,
        accepted(&accounts, account).await,
    ];
    let usd = Currency::parse("USD").unwrap();
    let of = |record, seq| deposited(account, record, seq);
    let more = Amount::from_decimal(101.into(), krw()).unwrap();
    let refused = Outcome::Refused(Reason::BalanceLimitExceeded);
    let twice = Outcome::Applied { balance_after: balance(200), account_seq: 2 };
    let steps = [
        (of(RecordId::new(), 9), Unknown),
        // Every part of a movement counts, also in a batch that settles the record after all.
        (MovementResult { account_id: other, ..of(first, 1) }, Refused(Contradiction::Movement)),
        (
            MovementResult { kind: Kind::Withdrawal, ..of(first, 1) },
            Refused(Contradiction::Movement),
        ),
        (MovementResult { amount: more, ..of(first, 1) }, Refused(Contradiction::Movement)),
        (MovementResult { currency: usd, ..of(first, 1) }, Refused(Contradiction::Movement)),
        (of(first, 1), NOW),
        (of(first, 1), Already),
        (MovementResult { outcome: refused, ..of(first, 1) }, Refused(Contradiction::Outcome)),
        (MovementResult { transaction_id: 7, ..of(first, 1) }, Refused(Contradiction::Outcome)),
        // Alone with its contradiction, and the other way round.
        (MovementResult { account_id: other, ..of(second, 9) }, Refused(Contradiction::Movement)),
        (of(third, 3), NOW),
        (MovementResult { outcome: twice, ..of(third, 3) }, Refused(Contradiction::Outcome)),
        (MovementResult { outcome: refused, ..of(fourth, 4) }, NOW),
        (MovementResult { outcome: refused, ..of(fourth, 4) }, Already),
    ];
    let (results, expected): (Vec<_>, Vec<_>) = steps.into_iter().unzip();
    assert_eq!(settled(&accounts, &results).await, expected);
    type Row = (Uuid, String, Option<Decimal>, Option<String>, bool);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT id, status, balance_after, reason, updated_at >= created_at
         FROM transaction_records ORDER BY id",
    )
    .fetch_all(&accounts)
    .await
    .unwrap();
    let limit = Some("BALANCE_LIMIT_EXCEEDED".to_owned());
    let success = |record: RecordId, after: i64| {
        (record.as_uuid(), "SUCCESS".to_owned(), Some(after.into()), None, true)
    };
    assert_eq!(
        rows,
        [
            success(first, 100),
            (second.as_uuid(), "PENDING".to_owned(), None, None, true),
            success(third, 300),
            (fourth.as_uuid(), "FAILED".to_owned(), None, limit, true),
        ]
    );
    assert_eq!(shown(&accounts, account).await, (300.into(), 3));
    assert_eq!(shown(&accounts, other).await, (0.into(), 0));

    // The number between arrives last, in a batch with what was settled before.
    let late = [of(third, 3), of(second, 2), of(first, 1)];
    assert_eq!(settled(&accounts, &late).await, [Already, NOW, Already]);
    assert_eq!(shown(&accounts, account).await, (300.into(), 3));
    assert_eq!(settled(&accounts, &[]).await, []);
}

#[tokio::test]
async fn results_of_other_movements_leave_their_records_pending() {
    let stack = databases("batches-of-other-movements").await;
    let accounts = stack.accounts().await;
    let account = opened(&accounts).await;
    let other = opened(&accounts).await;
    let mut right = Vec::new();
    for seq in 1..=4 {
        right.push(deposited(account, accepted(&accounts, account).await, seq));
    }
    let mut wrong = right.clone();
    wrong[0].account_id = other;
    wrong[1].kind = Kind::Withdrawal;
    wrong[2].amount = Amount::from_decimal(101.into(), krw()).unwrap();
    wrong[3].currency = Currency::parse("JPY").unwrap();
    let refused = [Settling::Refused(Contradiction::Movement); 4];
    assert_eq!(settled(&accounts, &wrong).await, refused);
    assert_eq!(shown(&accounts, account).await, (0.into(), 0));
    assert_eq!(shown(&accounts, other).await, (0.into(), 0));
    assert_eq!(settled(&accounts, &right).await, [NOW; 4]);
    assert_eq!(shown(&accounts, account).await, (400.into(), 4));
}
