//! Accounts: what each holds, and the locks.
//!
//! Whoever writes takes the locks of a batch's accounts first and in one go, in
//! the order of their ids: batches that share accounts wait for each other
//! instead of deadlocking, and what was read can't change until the commit.
//!
//! An `UPDATE` locks in the order in which its plan meets the rows. A condition
//! `account_id = ANY (ARRAY[…])` leaves but one plan, whatever the statistics
//! say: the keys one after the other, each through the index. A plain equality
//! could as well be a join that starts from the table, which a statement
//! planned while the table was small would go on to do.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use contract::{AccountId, Balance, Command, Currency};
use runtime::worker::Failure;
use rust_decimal::Decimal;
use sqlx::{PgConnection, PgPool, types::Uuid};

use crate::ledger::Account;

/// Locks these accounts and reads them; those that are not there are left out.
pub(super) async fn lock(
    connection: &mut PgConnection,
    named: &BTreeSet<AccountId>,
) -> Result<BTreeMap<AccountId, Account>, Failure> {
    let ids: Vec<Uuid> = named.iter().map(|id| id.as_uuid()).collect();
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

/// Adds the accounts that are not there yet, empty, in the currency of their
/// first command.
pub(super) async fn add(
    pool: &PgPool,
    commands: impl Iterator<Item = &Command>,
) -> Result<(), Failure> {
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

/// Writes what locked accounts hold now.
pub(super) async fn write(
    connection: &mut PgConnection,
    moved: &BTreeMap<AccountId, Account>,
) -> Result<(), Failure> {
    if moved.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "UPDATE accounts SET balance = moved.balance, account_seq = moved.seq, updated_at = now()
         FROM unnest($1::uuid[], $2::numeric[], $3::bigint[]) AS moved (account_id, balance, seq)
         WHERE accounts.account_id = ANY (ARRAY[moved.account_id])",
        &moved.keys().map(|id| id.as_uuid()).collect::<Vec<_>>(),
        &moved.values().map(|it| it.balance.as_decimal()).collect::<Vec<_>>(),
        &moved.values().map(|it| it.seq).collect::<Vec<_>>(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The currency in a column.
pub(super) fn currency(code: &str) -> anyhow::Result<Currency> {
    Currency::parse(code).with_context(|| format!("the ledger holds a currency {code:?}"))
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
        let balance = Balance::from_decimal(row.balance, currency)
            .with_context(|| format!("account {} holds {}", row.account_id, row.balance))?;
        let account = Account { currency, balance, seq: row.account_seq };
        Ok((AccountId::from_uuid(row.account_id), account))
    };
    rows.into_iter().map(account).collect::<anyhow::Result<_>>().map_err(Failure::Other)
}
