//! Accounts: their balances and their locks.
//!
//! A writer first locks all accounts of its batch, in one statement and in id
//! order. Batches that share accounts then wait for each other instead of
//! deadlocking, and the rows read can't change before the commit.
//!
//! An `UPDATE` locks rows in the order of its plan. The condition `account_id =
//! ANY (ARRAY[…])` leaves the planner one plan, whatever the statistics: one index
//! scan per key, in key order. With a plain equality, a plan made while the table
//! was small could be a join that starts from the table.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use contract::{AccountId, Balance, Command, Currency};
use ledger::{Account, chain::Hash};
use runtime::postgres::PgPool;
use runtime::worker::Failure;
use rust_decimal::Decimal;
use sqlx::{PgConnection, types::Uuid};

/// Locks and reads the existing accounts among these.
pub(super) async fn lock(
    connection: &mut PgConnection,
    accounts: &BTreeSet<AccountId>,
) -> Result<BTreeMap<AccountId, Account>, Failure> {
    let ids: Vec<Uuid> = accounts.iter().map(|id| id.as_uuid()).collect();
    let rows = sqlx::query_as!(
        AccountRow,
        "SELECT account_id, currency, balance, account_seq FROM accounts
         WHERE account_id = ANY($1) ORDER BY account_id FOR NO KEY UPDATE",
        &ids
    )
    .fetch_all(connection)
    .await?;
    read(rows)
}

/// Inserts the missing accounts of the commands, empty, each in the currency of its
/// first command.
pub(super) async fn add(
    pool: &PgPool,
    commands: impl Iterator<Item = &Command>,
) -> Result<(), Failure> {
    let mut missing = BTreeMap::new();
    for command in commands {
        missing.entry(command.account_id).or_insert(command.currency);
    }
    let ids: Vec<Uuid> = missing.keys().map(|id| id.as_uuid()).collect();
    let currencies: Vec<String> =
        missing.values().map(|currency| currency.code().to_owned()).collect();
    sqlx::query!(
        "INSERT INTO accounts (account_id, currency, created_at, updated_at)
         SELECT account_id, currency, at, at
         FROM (SELECT *, clock_timestamp() AS at FROM unnest($1::uuid[], $2::text[])
                   AS missing (account_id, currency)) AS missing
         ON CONFLICT DO NOTHING",
        &ids,
        &currencies
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Adds links with these contents to the chains of locked accounts, and writes the new balances.
/// The time of the decision is never before the account's last one, even if the clock was set
/// back.
#[expect(clippy::as_conversions, reason = "sqlx takes the type of such an array this way")]
pub(super) async fn write(
    connection: &mut PgConnection,
    moved: &BTreeMap<AccountId, Account>,
    links: &BTreeMap<AccountId, Hash>,
) -> Result<(), Failure> {
    if links.is_empty() {
        return Ok(());
    }
    let states = || links.keys().map(|id| moved.get(id));
    sqlx::query!(
        "UPDATE accounts SET balance = coalesce(new.balance, accounts.balance),
             account_seq = coalesce(new.seq, accounts.account_seq),
             chain_link = accounts.chain_link + 1,
             (updated_at, chain_hash) = (
                 SELECT at, chain_hash(accounts.chain_hash, accounts.account_id, accounts.chain_link + 1,
                                       coalesce(new.seq, 0), new.balance, at, new.contents)
                 FROM (SELECT greatest(accounts.updated_at, clock_timestamp()) AS at) AS clock)
         FROM unnest($1::uuid[], $2::numeric[], $3::bigint[], $4::bytea[])
             AS new (account_id, balance, seq, contents)
         WHERE accounts.account_id = ANY (ARRAY[new.account_id])",
        &links.keys().map(|id| id.as_uuid()).collect::<Vec<_>>(),
        &states().map(|state| state.map(|account| account.balance.as_decimal())).collect::<Vec<_>>()
            as &[Option<Decimal>],
        &states().map(|state| state.map(|account| account.seq)).collect::<Vec<_>>()
            as &[Option<i64>],
        &links.values().map(|contents| contents.to_vec()).collect::<Vec<_>>(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Parses a currency column.
pub(super) fn currency(code: &str) -> anyhow::Result<Currency> {
    Currency::parse(code).with_context(|| format!("the ledger has an unknown currency {code:?}"))
}

struct AccountRow {
    account_id: Uuid,
    currency: String,
    balance: Decimal,
    account_seq: i64,
}

fn read(rows: Vec<AccountRow>) -> Result<BTreeMap<AccountId, Account>, Failure> {
    let account = |row: AccountRow| {
        let currency = currency(&row.currency)?;
        let balance = Balance::from_decimal(row.balance, currency).with_context(|| {
            format!("account {} has the invalid balance {}", row.account_id, row.balance)
        })?;
        let account = Account { currency, balance, seq: row.account_seq };
        Ok((AccountId::from_uuid(row.account_id), account))
    };
    rows.into_iter().map(account).collect::<anyhow::Result<_>>().map_err(Failure::Other)
}
