//! The transaction-service's store: a batch of commands is applied to the
//! ledger.

use std::{collections::HashMap, time::Duration};

use contract::{
    AccountId, Amount, Command, Currency, Kind, Outcome, Reason, RecordId, TransactionResult,
};
use futures::future::join_all;
use rand::{RngExt, seq::SliceRandom};
use runtime::postgres::PgPool;
use runtime::{postgres::DatabaseConfig, worker::Failure};
use rust_decimal::Decimal;
use tests::{Stack, eventually};
use time::OffsetDateTime;
use transaction_service::store::Ledger;
use uuid::Uuid;

use super::{PATIENCE, account_row, balance, krw, patient};

pub(super) fn command(record: RecordId, account: AccountId, kind: Kind, amount: i64) -> Command {
    Command {
        record_id: record,
        account_id: account,
        user_id: "teller".to_owned().try_into().unwrap(),
        kind,
        amount: Amount::from_decimal(amount.into(), krw()).unwrap(),
        currency: krw(),
        requested_at: OffsetDateTime::UNIX_EPOCH,
    }
}

async fn entries(ledger: &PgPool) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM transactions").fetch_one(ledger).await.unwrap()
}

/// Each further transaction costs a client time.
#[tokio::test]
async fn applied_commands_share_one_transaction_and_refusals_add_one() {
    let stack = Stack::start_servers("batches-and-transactions").await;
    let pool = stack.ledger().await;
    let ledger = Ledger::new(pool.clone());
    let new_command = |account, kind| command(RecordId::new(), account, kind, 10);
    let [known, empty] = [AccountId::new(), AccountId::new()];
    ledger.apply(&[new_command(known, Kind::Deposit)]).await.unwrap();
    let deposit = || new_command(known, Kind::Deposit);
    let first_deposit = || new_command(AccountId::new(), Kind::Deposit);
    let refused = || new_command(empty, Kind::Withdrawal);
    ledger.apply(&[refused()]).await.unwrap();
    for (batch, expected) in [
        (vec![deposit(), deposit()], 1),
        (vec![deposit(), first_deposit(), first_deposit()], 1),
        // The refusal has a transaction of its own, and does not roll back the others.
        (vec![deposit(), first_deposit(), refused()], 2),
        (vec![refused()], 1),
    ] {
        let mut fewest = i64::MAX;
        // Several attempts, because PostgreSQL sometimes begins a transaction of its own.
        for _ in 0..5 {
            let repeat =
                |command: &Command| Command { record_id: RecordId::new(), ..command.clone() };
            let batch: Vec<_> = batch.iter().map(repeat).collect();
            let before = transactions_begun(&pool).await;
            assert!(ledger.apply(&batch).await.unwrap().iter().all(Option::is_some));
            // The query itself begins one transaction.
            fewest = fewest.min(transactions_begun(&pool).await - before - 1);
        }
        assert_eq!(fewest, expected, "{batch:?}");
    }
}

/// Two replicas apply the same undecided commands. Another transaction locks or
/// adds the account until both replicas wait for it.
#[tokio::test]
async fn replicas_that_decide_the_same_commands_at_once_give_the_same_outcomes() {
    let stack = Stack::start_servers("batches-that-wait").await;
    let url = stack.file().databases.transaction;
    let (pool, replicas) = (stack.ledger().await, [patient(&url), patient(&url)]);
    let account = AccountId::new();
    for (round, lock) in (1..).zip([
        "INSERT INTO accounts (account_id, currency) VALUES ($1, 'KRW')",
        "SELECT FROM accounts WHERE account_id = $1 FOR UPDATE",
    ]) {
        let new_command = |kind, amount| command(RecordId::new(), account, kind, amount);
        let batch = [new_command(Kind::Deposit, 10), new_command(Kind::Withdrawal, 4)];
        let mut holder = pool.begin().await.unwrap();
        sqlx::query(lock).bind(account.as_uuid()).execute(&mut *holder).await.unwrap();
        let apply = async |replica: &PgPool| {
            let ledger = Ledger::new(replica.clone());
            ledger.apply(&batch).await.unwrap()
        };
        let [first, second] = &replicas;
        let (first, second, ()) = tokio::join!(apply(first), apply(second), async {
            eventually("both replicas wait for the lock", PATIENCE, || async {
                let waiting: i64 = sqlx::query_scalar(
                    "SELECT count(*) FROM pg_stat_activity
                     WHERE datname = current_database() AND wait_event_type = 'Lock'",
                )
                .fetch_one(&pool)
                .await
                .unwrap();
                (waiting == 2).then_some(())
            })
            .await;
            holder.commit().await.unwrap();
        });
        assert_eq!(first, second);
        assert!(first.iter().all(Option::is_some));
        assert_eq!(account_row(&pool, account).await, ((6 * round).into(), 2 * round));
        assert_eq!(entries(&pool).await, 2 * round);
        assert_stored(&pool, &first).await;
    }
}

/// The number of transactions that have written something, including those rolled back.
async fn transactions_begun(ledger: &PgPool) -> i64 {
    sqlx::query_scalar("SELECT pg_current_xact_id()::text::bigint").fetch_one(ledger).await.unwrap()
}

#[tokio::test]
async fn accounts_missing_from_a_restored_ledger_are_added_again() {
    let stack = Stack::start_servers("batches-of-a-restored-ledger").await;
    let pool = stack.ledger().await;
    let ledger = Ledger::new(pool.clone());
    let [lost, kept] = [AccountId::new(), AccountId::new()];
    let deposit = |account| command(RecordId::new(), account, Kind::Deposit, 10);
    ledger.apply(&[deposit(lost), deposit(kept)]).await.unwrap();
    for table in ["transactions", "accounts"] {
        sqlx::query(sqlx::AssertSqlSafe(format!("DELETE FROM {table} WHERE account_id = $1")))
            .bind(lost.as_uuid())
            .execute(&pool)
            .await
            .unwrap();
    }
    ledger.apply(&[deposit(kept), deposit(lost)]).await.unwrap();
    assert_eq!(account_row(&pool, lost).await, (10.into(), 1));
    assert_eq!(account_row(&pool, kept).await, (20.into(), 2));
}

#[tokio::test]
async fn a_batch_of_any_size_gives_the_outcomes_of_its_commands_in_sequence() {
    let stack = Stack::start_servers("batches-of-commands").await;
    let pool = stack.ledger().await;
    for deposits in [1, 5, 200] {
        let ledger = Ledger::new(pool.clone());
        let [account, other] = [AccountId::new(), AccountId::new()];
        let before = entries(&pool).await;
        let batch: Vec<_> =
            (0..deposits).map(|_| command(RecordId::new(), account, Kind::Deposit, 10)).collect();
        let results = ledger.apply(&batch).await.unwrap();
        for (seq, (command, result)) in (1..).zip(batch.iter().zip(&results)) {
            let result = result.clone().unwrap();
            let applied = Outcome::Applied { balance_after: balance(10 * seq), account_seq: seq };
            assert_eq!((result.record_id, result.outcome), (command.record_id, applied));
        }
        // Again, alone and among others: the stored outcomes are returned, and no balance moves.
        assert_eq!(ledger.apply(&batch).await.unwrap(), results);
        let mut more = batch.clone();
        more.insert(0, command(RecordId::new(), account, Kind::Withdrawal, 10));
        more.push(command(RecordId::new(), other, Kind::Withdrawal, 1));
        more.push(command(RecordId::new(), account, Kind::Deposit, 10));
        more.push(Command { account_id: other, ..batch[0].clone() });
        more.extend_from_within(..1);
        let again = ledger.apply(&more).await.unwrap();
        assert_eq!(again[1..=batch.len()], results);
        let refused = Outcome::Refused(Reason::InsufficientFunds);
        assert_eq!(again[batch.len() + 1].clone().unwrap().outcome, refused);
        assert_eq!(again[batch.len() + 3], None, "a known record with another account");
        assert_eq!(again.last(), again.first());
        // All of it once more: the outcomes are the same, and no balance moves.
        assert_eq!(ledger.apply(&more).await.unwrap(), again);
        assert_eq!(account_row(&pool, account).await, ((10 * deposits).into(), deposits + 2));
        assert_eq!(account_row(&pool, other).await, (0.into(), 0));
        assert_eq!(entries(&pool).await, before + deposits + 3);
        assert_stored(&pool, &again).await;
    }
}

/// The largest amount, and the largest balance.
const LIMIT: i64 = 999_999_999_999_999_999;

/// Batches with a sum that could be applied as a whole.
#[tokio::test]
async fn a_batch_with_a_valid_sum_and_invalid_parts_gets_one_outcome_per_command() {
    let stack = Stack::start_servers("batches-that-seem-sound").await;
    let pool = stack.ledger().await;
    let account = AccountId::new();
    let new_command = |kind, amount| command(RecordId::new(), account, kind, amount);
    let (deposit, usd) = (new_command(Kind::Deposit, 5), Currency::parse("USD").unwrap());
    let applied =
        |amount, account_seq| Outcome::Applied { balance_after: balance(amount), account_seq };
    for (batch, expected, row) in [
        (vec![deposit.clone()], vec![applied(5, 1)], (5, 1)),
        (
            vec![new_command(Kind::Withdrawal, 10), new_command(Kind::Deposit, 10)],
            vec![Outcome::Refused(Reason::InsufficientFunds), applied(15, 2)],
            (15, 2),
        ),
        (
            vec![
                new_command(Kind::Deposit, 1),
                Command { currency: usd, ..new_command(Kind::Deposit, 1) },
            ],
            vec![applied(16, 3), Outcome::Refused(Reason::CurrencyMismatch)],
            (16, 3),
        ),
        (
            {
                let twice = new_command(Kind::Deposit, 4);
                vec![twice.clone(), new_command(Kind::Withdrawal, 1), twice]
            },
            vec![applied(20, 4), applied(19, 5), applied(20, 4)],
            (19, 5),
        ),
        (
            vec![new_command(Kind::Deposit, 1), deposit],
            vec![applied(20, 6), applied(5, 1)],
            (20, 6),
        ),
        (
            vec![Command { currency: usd, ..new_command(Kind::Deposit, 1) }],
            vec![Outcome::Refused(Reason::CurrencyMismatch)],
            (20, 6),
        ),
        (
            vec![new_command(Kind::Deposit, LIMIT), new_command(Kind::Withdrawal, 20)],
            vec![Outcome::Refused(Reason::BalanceLimitExceeded), applied(0, 7)],
            (0, 7),
        ),
        (
            vec![
                new_command(Kind::Deposit, LIMIT),
                new_command(Kind::Deposit, 1),
                new_command(Kind::Withdrawal, 1),
            ],
            vec![
                applied(LIMIT, 8),
                Outcome::Refused(Reason::BalanceLimitExceeded),
                applied(LIMIT - 1, 9),
            ],
            (LIMIT - 1, 9),
        ),
    ] {
        // A new `Ledger` has seen no refusal yet, and so tries the whole batch first.
        let results = Ledger::new(pool.clone()).apply(&batch).await.unwrap();
        assert_eq!(outcomes_of(&results), expected);
        assert_eq!(account_row(&pool, account).await, (row.0.into(), row.1));
        assert_stored(&pool, &results).await;
    }
    // The same for accounts not in the ledger yet.
    for (batch, expected) in [
        (
            [(Kind::Deposit, LIMIT), (Kind::Deposit, 1), (Kind::Withdrawal, 1)],
            [
                applied(LIMIT, 1),
                Outcome::Refused(Reason::BalanceLimitExceeded),
                applied(LIMIT - 1, 2),
            ],
        ),
        (
            [(Kind::Withdrawal, 1), (Kind::Deposit, 2), (Kind::Withdrawal, 1)],
            [Outcome::Refused(Reason::InsufficientFunds), applied(2, 1), applied(1, 2)],
        ),
    ] {
        let account = AccountId::new();
        let batch = batch.map(|(kind, amount)| command(RecordId::new(), account, kind, amount));
        let results = Ledger::new(pool.clone()).apply(&batch).await.unwrap();
        assert_eq!(outcomes_of(&results), expected);
        assert_stored(&pool, &results).await;
    }
}

fn outcomes_of(results: &[Option<TransactionResult>]) -> Vec<Outcome> {
    results.iter().map(|result| result.as_ref().unwrap().outcome).collect()
}

/// Checks that the ledger has stored exactly these results.
async fn assert_stored(ledger: &PgPool, results: &[Option<TransactionResult>]) {
    for result in results.iter().flatten() {
        type Row = (i64, Uuid, String, Decimal, String, Option<String>, OffsetDateTime);
        let row: Row = sqlx::query_as(
            "SELECT id, account_id, type, amount, currency, reason, created_at
                 FROM transactions WHERE record_id = $1",
        )
        .bind(result.record_id.as_uuid())
        .fetch_one(ledger)
        .await
        .unwrap();
        let reason = match result.outcome {
            Outcome::Refused(reason) => Some(reason.as_str().to_owned()),
            Outcome::Applied { .. } => None,
        };
        let expected = (
            result.transaction_id,
            result.account_id.as_uuid(),
            result.kind.as_str().to_owned(),
            result.amount.as_decimal(),
            result.currency.code().to_owned(),
            reason,
            result.processed_at,
        );
        assert_eq!(row, expected);
    }
}

/// Workers apply the same commands in different batches at once, on few accounts.
/// Each record gets the same outcome everywhere, and the books balance.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overlapping_batches_decide_each_record_once() {
    const RECORDS: usize = 2_000;
    let stack = Stack::start_servers("batches-that-overlap").await;
    let config = DatabaseConfig {
        database_url: stack.file().databases.transaction.parse().unwrap(),
        database_connections: 8,
        database_timeout: Duration::from_secs(20),
        database_lifetime: Duration::from_secs(120),
    };
    let pool = runtime::postgres::pool(&config, "batches").unwrap();
    let accounts: Vec<_> = (0..20).map(|_| AccountId::new()).collect();
    let commands: Vec<_> = (0..RECORDS)
        .map(|_| {
            let mut random = rand::rng();
            let kind = if random.random_bool(0.5) { Kind::Deposit } else { Kind::Withdrawal };
            let account = accounts[random.random_range(0..accounts.len())];
            command(RecordId::new(), account, kind, random.random_range(1..50))
        })
        .collect();
    let worker = |commands: Vec<Command>| async move {
        let ledger = Ledger::new(pool.clone());
        let (mut remaining, mut decided) = (&commands[..], Vec::new());
        while !remaining.is_empty() {
            let size = rand::rng().random_range(1..=remaining.len().min(100));
            let (batch, rest) = remaining.split_at(size);
            match ledger.apply(batch).await {
                Ok(results) => decided.extend(results.into_iter().map(Option::unwrap)),
                Err(Failure::Transient(error) | Failure::Locked(error)) => {
                    assert!(!format!("{error:#}").contains("deadlock"), "{error:#}");
                    continue;
                }
                Err(Failure::Other(error)) => panic!("{error:#}"),
            }
            remaining = rest;
        }
        decided
    };
    let workers = (0..6).map(|_| {
        let mut shuffled = commands.clone();
        shuffled.shuffle(&mut rand::rng());
        tokio::spawn(worker.clone()(shuffled))
    });
    let mut outcomes = HashMap::new();
    for result in join_all(workers).await.into_iter().flat_map(Result::unwrap) {
        let known = outcomes.entry(result.record_id).or_insert_with(|| result.clone());
        assert_eq!(*known, result);
    }
    assert_eq!(outcomes.len(), RECORDS);
    let ledger = stack.ledger().await;
    assert_eq!(usize::try_from(entries(&ledger).await).unwrap(), RECORDS);
    for account in accounts {
        let rows: Vec<(String, Decimal, Decimal, i64, OffsetDateTime)> = sqlx::query_as(
            "SELECT type, amount, balance_after, account_seq, created_at FROM transactions
             WHERE account_id = $1 AND status = 'SUCCESS' ORDER BY account_seq",
        )
        .bind(account.as_uuid())
        .fetch_all(&ledger)
        .await
        .unwrap();
        let mut running = (Decimal::ZERO, 0);
        assert!(rows.is_sorted_by_key(|row| row.4), "{rows:?}");
        for (kind, amount, balance_after, account_seq, _) in rows {
            running.0 += if kind == "DEPOSIT" { amount } else { -amount };
            running.1 += 1;
            assert_eq!((balance_after, account_seq), running);
            assert!(balance_after >= Decimal::ZERO);
        }
        assert_eq!(account_row(&ledger, account).await, running);
    }
}
