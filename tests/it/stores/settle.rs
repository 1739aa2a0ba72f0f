//! The account-service's store: a batch of results settles records and moves the
//! projected balances.

use account_service::store::{SettleOutcome, Times, settle};
use contract::{AccountId, Amount, Currency, Kind, Outcome, Reason, RecordId, TransactionResult};
use ledger::Contradiction;
use runtime::postgres::PgPool;
use rust_decimal::Decimal;
use tests::Stack;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{account_row, balance, krw};

/// The result of an applied deposit of 100 KRW.
fn deposited(account: AccountId, record: RecordId, account_seq: i64) -> TransactionResult {
    TransactionResult {
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

async fn open_account(accounts: &PgPool) -> AccountId {
    let account = Uuid::now_v7();
    sqlx::query("INSERT INTO accounts (account_id, owner_id, currency) VALUES ($1, 'one', 'KRW')")
        .bind(account)
        .execute(accounts)
        .await
        .unwrap();
    AccountId::from_uuid(account)
}

/// A PENDING deposit of 100 KRW. Its time is a minute in the future, as from a clock that is ahead.
async fn accept_deposit(accounts: &PgPool, account: AccountId) -> RecordId {
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

const EPOCH: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;
/// Settled, with fixed times in place of the real ones.
const SETTLED: SettleOutcome = SettleOutcome::Settled(Times { accepted: EPOCH, settled: EPOCH });

/// Settles a batch. Gives the effect of each result.
async fn settled(accounts: &PgPool, results: &[TransactionResult]) -> Vec<SettleOutcome> {
    let effects = settle(accounts, results).await.unwrap();
    let fix_times =
        |effect| if matches!(effect, SettleOutcome::Settled(_)) { SETTLED } else { effect };
    effects.into_iter().map(fix_times).collect()
}

#[tokio::test]
async fn results_in_one_batch_settle_as_they_do_in_sequence() {
    use SettleOutcome::{Contradicts, NoRecord, SettledBefore};
    let stack = Stack::start_servers("batches-of-results").await;
    let accounts = stack.accounts().await;
    let account = open_account(&accounts).await;
    let other = open_account(&accounts).await;
    let [first, second, third, fourth] = [
        accept_deposit(&accounts, account).await,
        accept_deposit(&accounts, account).await,
        accept_deposit(&accounts, account).await,
        accept_deposit(&accounts, account).await,
    ];
    let usd = Currency::parse("USD").unwrap();
    let result_of = |record, seq| deposited(account, record, seq);
    let other_amount = Amount::from_decimal(101.into(), krw()).unwrap();
    let refused = Outcome::Refused(Reason::BalanceLimitExceeded);
    let other_balance = Outcome::Applied { balance_after: balance(200), account_seq: 2 };
    let steps = [
        (result_of(RecordId::new(), 9), NoRecord),
        // Each part of the movement must match, also if a later result settles the record.
        (
            TransactionResult { account_id: other, ..result_of(first, 1) },
            Contradicts(Contradiction::Movement),
        ),
        (
            TransactionResult { kind: Kind::Withdrawal, ..result_of(first, 1) },
            Contradicts(Contradiction::Movement),
        ),
        (
            TransactionResult { amount: other_amount, ..result_of(first, 1) },
            Contradicts(Contradiction::Movement),
        ),
        (
            TransactionResult { currency: usd, ..result_of(first, 1) },
            Contradicts(Contradiction::Movement),
        ),
        (result_of(first, 1), SETTLED),
        (result_of(first, 1), SettledBefore),
        (
            TransactionResult { outcome: refused, ..result_of(first, 1) },
            Contradicts(Contradiction::Outcome),
        ),
        (
            TransactionResult { transaction_id: 7, ..result_of(first, 1) },
            Contradicts(Contradiction::Outcome),
        ),
        // A contradiction alone, and a contradiction after the settling result.
        (
            TransactionResult { account_id: other, ..result_of(second, 9) },
            Contradicts(Contradiction::Movement),
        ),
        (result_of(third, 3), SETTLED),
        (
            TransactionResult { outcome: other_balance, ..result_of(third, 3) },
            Contradicts(Contradiction::Outcome),
        ),
        (TransactionResult { outcome: refused, ..result_of(fourth, 4) }, SETTLED),
        (TransactionResult { outcome: refused, ..result_of(fourth, 4) }, SettledBefore),
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
    assert_eq!(account_row(&accounts, account).await, (300.into(), 3));
    assert_eq!(account_row(&accounts, other).await, (0.into(), 0));

    // The result between the two numbers arrives last, with results settled before.
    let late = [result_of(third, 3), result_of(second, 2), result_of(first, 1)];
    assert_eq!(settled(&accounts, &late).await, [SettledBefore, SETTLED, SettledBefore]);
    assert_eq!(account_row(&accounts, account).await, (300.into(), 3));
    assert_eq!(settled(&accounts, &[]).await, []);
}

#[tokio::test]
async fn results_of_other_movements_leave_their_records_pending() {
    let stack = Stack::start_servers("batches-of-other-movements").await;
    let accounts = stack.accounts().await;
    let account = open_account(&accounts).await;
    let other = open_account(&accounts).await;
    let mut correct = Vec::new();
    for seq in 1..=4 {
        correct.push(deposited(account, accept_deposit(&accounts, account).await, seq));
    }
    let mut wrong = correct.clone();
    wrong[0].account_id = other;
    wrong[1].kind = Kind::Withdrawal;
    wrong[2].amount = Amount::from_decimal(101.into(), krw()).unwrap();
    wrong[3].currency = Currency::parse("JPY").unwrap();
    let contradicts = [SettleOutcome::Contradicts(Contradiction::Movement); 4];
    assert_eq!(settled(&accounts, &wrong).await, contradicts);
    assert_eq!(account_row(&accounts, account).await, (0.into(), 0));
    assert_eq!(account_row(&accounts, other).await, (0.into(), 0));
    assert_eq!(settled(&accounts, &correct).await, [SETTLED; 4]);
    assert_eq!(account_row(&accounts, account).await, (400.into(), 4));
}
