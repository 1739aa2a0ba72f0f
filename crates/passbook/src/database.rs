//! Connections to databases whose URLs people give, and the rows that both
//! services keep of a movement.

use std::{collections::HashMap, str::FromStr, time::Duration};

use anyhow::{Context, Result, ensure};
use rust_decimal::Decimal;
use sqlx::{ConnectOptions, FromRow, PgConnection, postgres::PgConnectOptions};
use uuid::Uuid;

const FORM: &str = "its URL must have the form postgres://user:password@host:5432/database";

/// How long a database may take to let somebody in.
const CONNECT: Duration = Duration::from_secs(10);

/// The URLs of the two databases that hold the books.
#[derive(Debug, Clone)]
pub(crate) struct Urls {
    /// The account-service's.
    pub(crate) account: String,
    /// The transaction-service's.
    pub(crate) transaction: String,
}

/// What a record asks for, or a transaction decided: both sides' rows in one
/// form, so that they can be compared.
#[derive(Debug, PartialEq, FromRow)]
pub(crate) struct Movement {
    pub(crate) record_id: Uuid,
    pub(crate) transaction_id: Option<i64>,
    pub(crate) account_id: Uuid,
    pub(crate) r#type: String,
    pub(crate) amount: Decimal,
    pub(crate) currency: String,
    pub(crate) status: String,
    pub(crate) reason: Option<String>,
    pub(crate) balance_after: Option<Decimal>,
}

/// What a database's URL says. It holds a password, and is in no error.
///
/// # Errors
/// When it is no database's URL.
pub(crate) fn options(url: &str) -> Result<PgConnectOptions> {
    ensure!(["postgres://", "postgresql://"].iter().any(|it| url.starts_with(it)), FORM);
    Ok(PgConnectOptions::from_str(url).context(FORM)?.application_name("passbook"))
}

/// Connects to a database.
///
/// # Errors
/// When it is no database's URL, or the database can't be reached.
pub(crate) async fn connect(url: &str) -> Result<PgConnection> {
    let options = options(url)?;
    // Reading a whole table takes its time, and is no reason to warn anybody.
    let options = options.disable_statement_logging();
    let connected = tokio::time::timeout(CONNECT, options.connect()).await;
    Ok(connected.with_context(|| format!("no answer within {} s", CONNECT.as_secs()))??)
}

/// The records with these ids.
///
/// # Errors
/// The database's.
pub(crate) async fn records(
    accounts: &mut PgConnection,
    ids: &[Uuid],
) -> sqlx::Result<HashMap<Uuid, Movement>> {
    let found = sqlx::query_as::<_, Movement>(
        "SELECT id AS record_id, transaction_id, account_id, type, amount, currency, status, reason,
                balance_after
         FROM transaction_records WHERE id = ANY($1)",
    );
    by_record(found.bind(ids).fetch_all(accounts).await?)
}

/// What the ledger decided for the records with these ids.
///
/// # Errors
/// The database's.
pub(crate) async fn transactions(
    ledger: &mut PgConnection,
    ids: &[Uuid],
) -> sqlx::Result<HashMap<Uuid, Movement>> {
    let found = sqlx::query_as::<_, Movement>(
        "SELECT record_id, id AS transaction_id, account_id, type, amount, currency, status, reason,
                balance_after
         FROM transactions WHERE record_id = ANY($1)",
    );
    by_record(found.bind(ids).fetch_all(ledger).await?)
}

fn by_record(rows: Vec<Movement>) -> sqlx::Result<HashMap<Uuid, Movement>> {
    Ok(rows.into_iter().map(|row| (row.record_id, row)).collect())
}
