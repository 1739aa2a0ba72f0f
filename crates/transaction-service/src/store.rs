//! The ledger's SQL: one transaction for a whole batch.
//!
//! Locks are taken on the accounts, in the order of their ids, before anything
//! is read: two batches that share accounts wait for each other instead of
//! deadlocking, and what is read after that can't change. Deciding in memory
//! between two statements was three times as fast as one large statement with
//! window sums.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{Context, anyhow};
use contract::{
    AccountId, Amount, Balance, Command, Currency, Kind, MovementResult, Outcome, Reason, RecordId,
};
use runtime::{crash, worker::Failure};
use rust_decimal::Decimal;
use sqlx::{PgConnection, PgPool, types::Uuid};
use time::OffsetDateTime;

use crate::ledger::{self, Account, Answer, Decisions, Entry};

/// How often a batch is begun anew because another writer was faster.
const RACES: usize = 5;

/// An outcome as it stands in the ledger.
#[derive(Debug, Clone)]
struct Stored {
    entry: Entry,
    transaction_id: i64,
    processed_at: OffsetDateTime,
}

/// Applies a batch of commands and commits. Gives the result for each command,
/// or `None` for one that contradicts what its record was decided for.
///
/// # Errors
/// [`Failure`]; nothing was committed then.
pub async fn apply(
    pool: &PgPool,
    commands: &[Command],
) -> Result<Vec<Option<MovementResult>>, Failure> {
    for _ in 0..RACES {
        if let Some(results) = try_apply(pool, commands).await? {
            return Ok(results);
        }
    }
    Err(Failure::Transient(anyhow!("other writers were faster {RACES} times in a row")))
}

/// `None`: an account was missing and has been added, or a record was decided
/// by somebody else meanwhile. Nothing was committed; begin anew.
async fn try_apply(
    pool: &PgPool,
    commands: &[Command],
) -> Result<Option<Vec<Option<MovementResult>>>, Failure> {
    let named: BTreeSet<_> = commands.iter().map(|command| command.account_id).collect();
    let mut transaction = pool.begin().await?;
    let accounts = lock_accounts(&mut transaction, &named).await?;
    if accounts.len() < named.len() {
        // Not inside this transaction: its locks must be taken in one go, in order.
        transaction.rollback().await?;
        add_accounts(pool, commands).await?;
        crash::point("ledger.accounts-added", &commands);
        return Ok(None);
    }
    let stored = find_decided(&mut transaction, commands).await?;
    let known = stored.iter().map(|(id, stored)| (*id, stored.entry.clone())).collect();
    let decisions = ledger::decide(accounts, known, commands);
    let Some(new) = insert_entries(&mut transaction, &decisions.entries).await? else {
        transaction.rollback().await?;
        return Ok(None);
    };
    crash::point("ledger.entries-inserted", &commands);
    write_balances(&mut transaction, &decisions).await?;
    crash::point("ledger.balances-written", &commands);
    transaction.commit().await?;
    crash::point("ledger.committed", &commands);
    let outcomes: HashMap<_, _> = stored.into_iter().chain(new).collect();
    Ok(Some(results(&decisions.answers, &outcomes)))
}

fn results(
    answers: &[Answer],
    outcomes: &HashMap<RecordId, Stored>,
) -> Vec<Option<MovementResult>> {
    let result = |answer: &Answer| match answer {
        Answer::Contradiction => None,
        Answer::Outcome(record_id) => outcomes.get(record_id).map(|stored| MovementResult {
            record_id: stored.entry.record_id,
            transaction_id: stored.transaction_id,
            account_id: stored.entry.account_id,
            kind: stored.entry.kind,
            amount: stored.entry.amount,
            currency: stored.entry.currency,
            outcome: stored.entry.outcome,
            processed_at: stored.processed_at,
        }),
    };
    answers.iter().map(result).collect()
}

async fn lock_accounts(
    connection: &mut PgConnection,
    named: &BTreeSet<AccountId>,
) -> Result<BTreeMap<AccountId, Account>, Failure> {
    let ids: Vec<Uuid> = named.iter().map(|id| id.as_uuid()).collect();
    let rows = sqlx::query!(
        "SELECT account_id, currency, balance, account_seq FROM accounts
         WHERE account_id = ANY($1) ORDER BY account_id FOR UPDATE",
        &ids
    )
    .fetch_all(connection)
    .await?;
    let account = |row: (Uuid, &str, Decimal, i64)| {
        let currency = currency(row.1)?;
        let balance = Balance::from_decimal(row.2, currency)
            .with_context(|| format!("account {} holds {}", row.0, row.2))?;
        Ok((AccountId::from_uuid(row.0), Account { currency, balance, seq: row.3 }))
    };
    rows.iter()
        .map(|row| account((row.account_id, &row.currency, row.balance, row.account_seq)))
        .collect::<anyhow::Result<_>>()
        .map_err(Failure::Other)
}

/// Adds the accounts that are not there yet, empty, in the currency of their
/// first command.
async fn add_accounts(pool: &PgPool, commands: &[Command]) -> Result<(), Failure> {
    let mut first = BTreeMap::new();
    for command in commands {
        first.entry(command.account_id).or_insert(command.currency);
    }
    let ids: Vec<Uuid> = first.keys().map(|id| id.as_uuid()).collect();
    let currencies: Vec<String> = first.values().map(|it| it.code().to_owned()).collect();
    sqlx::query!(
        "INSERT INTO accounts (account_id, currency)
         SELECT * FROM unnest($1::uuid[], $2::text[]) ON CONFLICT DO NOTHING",
        &ids,
        &currencies
    )
    .execute(pool)
    .await?;
    Ok(())
}

async fn find_decided(
    connection: &mut PgConnection,
    commands: &[Command],
) -> Result<HashMap<RecordId, Stored>, Failure> {
    let ids: BTreeSet<Uuid> = commands.iter().map(|command| command.record_id.as_uuid()).collect();
    let rows = sqlx::query_as!(
        TransactionRow,
        "SELECT id, record_id, account_id, type AS kind, amount, currency, reason, balance_after,
                account_seq, created_at
         FROM transactions WHERE record_id = ANY($1)",
        &Vec::from_iter(ids)
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| Stored::try_from(row).map(|stored| (stored.entry.record_id, stored)))
        .collect::<anyhow::Result<_>>()
        .map_err(Failure::Other)
}

/// `None` if one of the records was decided by somebody else meanwhile.
#[expect(clippy::as_conversions, reason = "sqlx takes the type of a nullable array this way")]
async fn insert_entries(
    connection: &mut PgConnection,
    entries: &[Entry],
) -> Result<Option<HashMap<RecordId, Stored>>, Failure> {
    if entries.is_empty() {
        return Ok(Some(HashMap::new()));
    }
    let column = |text: fn(&Entry) -> &'static str| {
        entries.iter().map(|entry| text(entry).to_owned()).collect::<Vec<_>>()
    };
    let applied: Vec<_> = entries.iter().map(|entry| applied(entry.outcome)).collect();
    let rows = sqlx::query!(
        "INSERT INTO transactions
             (record_id, account_id, type, amount, currency, status, reason, balance_after, account_seq)
         SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::numeric[], $5::text[],
                              $6::text[], $7::text[], $8::numeric[], $9::bigint[])
         ON CONFLICT (record_id) DO NOTHING
         RETURNING id, record_id, created_at",
        &entries.iter().map(|it| it.record_id.as_uuid()).collect::<Vec<_>>(),
        &entries.iter().map(|it| it.account_id.as_uuid()).collect::<Vec<_>>(),
        &column(|entry| entry.kind.as_str()),
        &entries.iter().map(|it| it.amount.as_decimal()).collect::<Vec<_>>(),
        &column(|entry| entry.currency.code()),
        &column(|entry| status(entry.outcome)),
        &entries.iter().map(|it| reason(it.outcome)).collect::<Vec<_>>() as &[Option<String>],
        &applied.iter().map(|it| it.map(|(balance, _)| balance)).collect::<Vec<_>>()
            as &[Option<Decimal>],
        &applied.iter().map(|it| it.map(|(_, seq)| seq)).collect::<Vec<_>>() as &[Option<i64>],
    )
    .fetch_all(connection)
    .await?;
    if rows.len() < entries.len() {
        return Ok(None);
    }
    let entries: HashMap<_, _> = entries.iter().map(|entry| (entry.record_id, entry)).collect();
    Ok(Some(
        rows.into_iter()
            .filter_map(|row| {
                let entry = (*entries.get(&RecordId::from_uuid(row.record_id))?).clone();
                let stored = Stored { entry, transaction_id: row.id, processed_at: row.created_at };
                Some((stored.entry.record_id, stored))
            })
            .collect(),
    ))
}

async fn write_balances(
    connection: &mut PgConnection,
    decisions: &Decisions,
) -> Result<(), Failure> {
    if decisions.moved.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "UPDATE accounts SET balance = moved.balance, account_seq = moved.seq, updated_at = now()
         FROM unnest($1::uuid[], $2::numeric[], $3::bigint[]) AS moved (account_id, balance, seq)
         WHERE accounts.account_id = moved.account_id",
        &decisions.moved.keys().map(|id| id.as_uuid()).collect::<Vec<_>>(),
        &decisions.moved.values().map(|it| it.balance.as_decimal()).collect::<Vec<_>>(),
        &decisions.moved.values().map(|it| it.seq).collect::<Vec<_>>(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

const fn status(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Applied { .. } => "SUCCESS",
        Outcome::Refused(_) => "FAILED",
    }
}

fn reason(outcome: Outcome) -> Option<String> {
    match outcome {
        Outcome::Applied { .. } => None,
        Outcome::Refused(reason) => Some(reason.as_str().to_owned()),
    }
}

const fn applied(outcome: Outcome) -> Option<(Decimal, i64)> {
    match outcome {
        Outcome::Applied { balance_after, account_seq } => {
            Some((balance_after.as_decimal(), account_seq))
        }
        Outcome::Refused(_) => None,
    }
}

fn currency(code: &str) -> anyhow::Result<Currency> {
    Currency::parse(code).with_context(|| format!("the ledger holds a currency {code:?}"))
}

struct TransactionRow {
    id: i64,
    record_id: Uuid,
    account_id: Uuid,
    kind: String,
    amount: Decimal,
    currency: String,
    reason: Option<String>,
    balance_after: Option<Decimal>,
    account_seq: Option<i64>,
    created_at: OffsetDateTime,
}

impl TryFrom<TransactionRow> for Stored {
    type Error = anyhow::Error;

    fn try_from(row: TransactionRow) -> anyhow::Result<Self> {
        let odd = || format!("transaction {} can't be read", row.id);
        let currency = currency(&row.currency)?;
        let outcome = match (&row.reason, row.balance_after, row.account_seq) {
            (None, Some(balance), Some(account_seq)) => Outcome::Applied {
                balance_after: Balance::from_decimal(balance, currency).with_context(odd)?,
                account_seq,
            },
            (Some(name), None, None) => Outcome::Refused(Reason::parse(name).with_context(odd)?),
            _ => return Err(anyhow!(odd())),
        };
        Ok(Self {
            entry: Entry {
                record_id: RecordId::from_uuid(row.record_id),
                account_id: AccountId::from_uuid(row.account_id),
                kind: Kind::parse(&row.kind).with_context(odd)?,
                amount: Amount::from_decimal(row.amount, currency).with_context(odd)?,
                currency,
                outcome,
            },
            transaction_id: row.id,
            processed_at: row.created_at,
        })
    }
}
