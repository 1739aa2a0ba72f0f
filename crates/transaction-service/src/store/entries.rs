//! Entries: the decided outcomes. A record has one entry, which never changes.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Context, anyhow};
use contract::{AccountId, Amount, Command, Kind, Outcome, RecordId, TransactionResult};
use ledger::Entry;
use runtime::worker::Failure;
use rust_decimal::Decimal;
use sqlx::{PgConnection, types::Uuid};
use time::OffsetDateTime;

use super::accounts::currency;

/// An entry as the ledger stores it.
#[derive(Debug, Clone)]
pub(super) struct StoredEntry {
    pub(super) entry: Entry,
    pub(super) transaction_id: i64,
    pub(super) processed_at: OffsetDateTime,
}

impl From<&StoredEntry> for TransactionResult {
    fn from(stored: &StoredEntry) -> Self {
        let Entry { record_id, account_id, kind, amount, currency, outcome } = stored.entry;
        Self {
            record_id,
            transaction_id: stored.transaction_id,
            account_id,
            kind,
            amount,
            currency,
            outcome,
            processed_at: stored.processed_at,
        }
    }
}

/// A unique constraint that an insert violated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Conflict {
    /// Another writer has decided the record.
    Record,
    /// Another transaction of the account has this number.
    Number,
}

impl Conflict {
    /// `None` for any other error.
    pub(super) fn of(error: &sqlx::Error) -> Option<Self> {
        match error.as_database_error()?.constraint()? {
            "transactions_record_id_key" => Some(Self::Record),
            "transactions_account_id_account_seq_key" => Some(Self::Number),
            _ => None,
        }
    }
}

/// The stored entries of the commands' records.
pub(super) async fn find(
    connection: &mut PgConnection,
    commands: &[Command],
) -> Result<HashMap<RecordId, StoredEntry>, Failure> {
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
        .map(|row| StoredEntry::try_from(row).map(|stored| (stored.entry.record_id, stored)))
        .collect::<anyhow::Result<_>>()
        .map_err(Failure::Other)
}

/// Inserts entries whose records are not decided yet. `None` if another writer has
/// decided one of the records: the caller must roll back. The statement checks this
/// under the lock of the accounts, and the unique constraint enforces it.
///
/// The entries have the time and the link that their account has got before. So an account's
/// entries have rising times in the order of their ids.
pub(super) async fn insert(
    connection: &mut PgConnection,
    entries: Vec<Entry>,
) -> Result<Option<Vec<StoredEntry>>, Failure> {
    if entries.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let inserted = match insert_rows(connection, &entries).await {
        Ok(Some(inserted)) => inserted,
        Ok(None) => return Ok(None),
        Err(error) => match Conflict::of(&error) {
            Some(Conflict::Record) => return Ok(None),
            // Under the lock, no other writer can have assigned that number.
            Some(Conflict::Number) => {
                return Err(Failure::Other(anyhow!(
                    "an account's account_seq is behind its transactions"
                )));
            }
            None => return Err(error.into()),
        },
    };
    if inserted.len() != entries.len() {
        let (ids, entries) = (inserted.len(), entries.len());
        return Err(Failure::Other(anyhow!("{ids} ids for {entries} transactions")));
    }
    let stored =
        entries.into_iter().zip(inserted).map(|(entry, (transaction_id, processed_at))| {
            StoredEntry { entry, transaction_id, processed_at }
        });
    Ok(Some(stored.collect()))
}

/// The transaction id and the time of each entry, in the order of the entries.
type Inserted = Vec<(i64, OffsetDateTime)>;

/// `None` if a record is decided already.
#[expect(clippy::as_conversions, reason = "sqlx takes the type of such an array this way")]
async fn insert_rows(
    connection: &mut PgConnection,
    entries: &[Entry],
) -> sqlx::Result<Option<Inserted>> {
    let applied = || entries.iter().map(|entry| applied(entry.outcome));
    let rows = sqlx::query!(
        "INSERT INTO transactions
             (record_id, account_id, type, amount, currency, status, reason, balance_after, account_seq,
              created_at, chain_link, chain_hash)
         SELECT record_id, account_id, type, amount, currency, status, reason, balance_after, account_seq,
             updated_at, chain_link, chain_hash
         FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::numeric[], $5::text[],
                     $6::text[], $7::text[], $8::numeric[], $9::bigint[])
             AS new (record_id, account_id, type, amount, currency, status, reason, balance_after,
                     account_seq),
             LATERAL (SELECT updated_at, chain_link, chain_hash FROM accounts
                      WHERE accounts.account_id = new.account_id OFFSET 0) AS account
         WHERE NOT EXISTS (SELECT FROM transactions WHERE record_id = ANY($1))
         RETURNING id, record_id, created_at",
        &entries.iter().map(|entry| entry.record_id.as_uuid()).collect::<Vec<_>>(),
        &entries.iter().map(|entry| entry.account_id.as_uuid()).collect::<Vec<_>>(),
        &entries.iter().map(|entry| entry.kind.as_str()).collect::<Vec<_>>() as &[&str],
        &entries.iter().map(|entry| entry.amount.as_decimal()).collect::<Vec<_>>(),
        &entries.iter().map(|entry| entry.currency.code()).collect::<Vec<_>>() as &[&str],
        &entries.iter().map(|entry| status(entry.outcome)).collect::<Vec<_>>() as &[&str],
        &entries.iter().map(|entry| reason(entry.outcome)).collect::<Vec<_>>() as &[Option<&str>],
        &applied().map(|applied| applied.map(|(balance, _)| balance)).collect::<Vec<_>>()
            as &[Option<Decimal>],
        &applied().map(|applied| applied.map(|(_, seq)| seq)).collect::<Vec<_>>() as &[Option<i64>],
    )
    .fetch_all(connection)
    .await?;
    let inserted: HashMap<_, _> =
        rows.into_iter().map(|row| (row.record_id, (row.id, row.created_at))).collect();
    let inserted = entries.iter().map(|entry| inserted.get(&entry.record_id.as_uuid()).copied());
    Ok(inserted.collect())
}

const fn status(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Applied { .. } => "SUCCESS",
        Outcome::Refused(_) => "FAILED",
    }
}

const fn reason(outcome: Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Applied { .. } => None,
        Outcome::Refused(reason) => Some(reason.as_str()),
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

impl TryFrom<TransactionRow> for StoredEntry {
    type Error = anyhow::Error;

    fn try_from(row: TransactionRow) -> anyhow::Result<Self> {
        let invalid = || format!("transaction {} has an invalid value", row.id);
        let currency = currency(&row.currency)?;
        let (reason, balance, seq) = (row.reason.as_deref(), row.balance_after, row.account_seq);
        let outcome =
            Outcome::from_columns(reason, balance, seq, currency).with_context(invalid)?;
        Ok(Self {
            entry: Entry {
                record_id: RecordId::from_uuid(row.record_id),
                account_id: AccountId::from_uuid(row.account_id),
                kind: Kind::parse(&row.kind).with_context(invalid)?,
                amount: Amount::from_decimal(row.amount, currency).with_context(invalid)?,
                currency,
                outcome,
            },
            transaction_id: row.id,
            processed_at: row.created_at,
        })
    }
}
