//! Reads slices of the ledger. Each slice is one short transaction, so that no snapshot
//! keeps dead rows from being removed.

use anyhow::{Context, anyhow};
use contract::Kind;
use runtime::postgres::{PgPool, PgTransaction};
use rust_decimal::Decimal;
use time::OffsetDateTime;

use super::{
    row::{AccountRow, LargeRow, Row},
    units::Units,
};

/// The rows of a part of the period.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) rows: u64,
    /// The lowest and the highest id, if there are rows.
    pub(super) ids: Option<(i64, i64)>,
}

/// Rows with ids from `first` to before `end`, and times in `[from, to)`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slice {
    pub(super) first: i64,
    pub(super) end: i64,
    pub(super) from: OffsetDateTime,
    pub(super) to: OffsetDateTime,
}

/// Above this amount, an amount may be unusual.
#[derive(Debug, Clone)]
pub(super) struct Limit {
    pub(super) currency: String,
    pub(super) kind: Kind,
    pub(super) amount: Decimal,
}

/// One processor of the database at most, and no statement that is stuck.
async fn begin(pool: &PgPool) -> sqlx::Result<PgTransaction> {
    let mut transaction = pool.begin_with("BEGIN READ ONLY").await?;
    sqlx::raw_sql(
        "SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL work_mem = '4MB'; \
         SET LOCAL statement_timeout = '60s'",
    )
    .execute(&mut *transaction)
    .await?;
    Ok(transaction)
}

/// Counts the rows of a part of the period, and finds their ids. The index of times
/// limits the pages to read. Ids and times have about the same order, but not exactly.
pub(super) async fn find(
    pool: &PgPool,
    from: OffsetDateTime,
    to: OffsetDateTime,
) -> sqlx::Result<Found> {
    let mut transaction = begin(pool).await?;
    let row = sqlx::query!(
        r#"SELECT count(*) AS "rows!", min(id) AS first, max(id) AS last
           FROM reporting.transactions WHERE created_at >= $1 AND created_at < $2"#,
        from,
        to
    )
    .fetch_one(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(Found { rows: u64::try_from(row.rows).unwrap_or(0), ids: row.first.zip(row.last) })
}

/// The lowest id that is not below `first`.
pub(super) async fn next_id(pool: &PgPool, first: i64) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar!(
        "SELECT id FROM reporting.transactions WHERE id >= $1 ORDER BY id LIMIT 1",
        first
    )
    .fetch_optional(pool)
    .await
    .map(Option::flatten)
}

/// All movements of a slice.
pub(super) async fn rows(pool: &PgPool, slice: Slice) -> anyhow::Result<Vec<Row>> {
    let mut transaction = begin(pool).await?;
    let rows = sqlx::query!(
        r#"SELECT record_id AS "record_id!", account_id AS "account_id!", type AS "kind!",
                  amount AS "amount!", currency AS "currency!", reason, created_at AS "created_at!"
           FROM reporting.transactions
           WHERE id >= $1 AND id < $2 AND created_at >= $3 AND created_at < $4"#,
        slice.first,
        slice.end,
        slice.from,
        slice.to
    )
    .try_map(|row| {
        Ok(Row {
            record_id: row.record_id,
            account_id: row.account_id,
            kind: kind(&row.kind)?,
            amount: units(row.amount)?,
            currency: row.currency,
            refusal: row.reason,
            created_at: row.created_at,
        })
    })
    .fetch_all(&mut *transaction)
    .await
    .context("reading a slice of the ledger")?;
    transaction.commit().await?;
    Ok(rows)
}

/// The applied movements of a slice with an amount above the limit of their currency and
/// type.
pub(super) async fn large_rows(
    pool: &PgPool,
    slice: Slice,
    limits: &[Limit],
) -> anyhow::Result<Vec<LargeRow>> {
    let currencies: Vec<String> = limits.iter().map(|limit| limit.currency.clone()).collect();
    let kinds: Vec<String> = limits.iter().map(|limit| limit.kind.as_str().to_owned()).collect();
    let amounts: Vec<Decimal> = limits.iter().map(|limit| limit.amount).collect();
    let mut transaction = begin(pool).await?;
    let rows = sqlx::query!(
        r#"SELECT id AS "id!", record_id AS "record_id!", account_id AS "account_id!",
                  t.type AS "kind!", t.amount AS "amount!", t.currency AS "currency!",
                  created_at AS "created_at!"
           FROM reporting.transactions t
           JOIN unnest($5::text[], $6::text[], $7::numeric[]) AS usual (currency, type, amount)
               ON usual.currency = t.currency AND usual.type = t.type
           WHERE id >= $1 AND id < $2 AND created_at >= $3 AND created_at < $4
               AND status = 'SUCCESS' AND t.amount > usual.amount
           ORDER BY id"#,
        slice.first,
        slice.end,
        slice.from,
        slice.to,
        &currencies,
        &kinds,
        &amounts
    )
    .try_map(|row| {
        Ok(LargeRow {
            id: row.id,
            record_id: row.record_id,
            account_id: row.account_id,
            kind: kind(&row.kind)?,
            amount: units(row.amount)?,
            currency: row.currency,
            created_at: row.created_at,
        })
    })
    .fetch_all(&mut *transaction)
    .await
    .context("reading large movements of the ledger")?;
    transaction.commit().await?;
    Ok(rows)
}

/// The applied movements of a slice, for the sums of accounts.
pub(super) async fn account_rows(pool: &PgPool, slice: Slice) -> anyhow::Result<Vec<AccountRow>> {
    let mut transaction = begin(pool).await?;
    let rows = sqlx::query!(
        r#"SELECT account_id AS "account_id!", type AS "kind!", amount AS "amount!",
                  currency AS "currency!"
           FROM reporting.transactions
           WHERE id >= $1 AND id < $2 AND created_at >= $3 AND created_at < $4
               AND status = 'SUCCESS'"#,
        slice.first,
        slice.end,
        slice.from,
        slice.to
    )
    .try_map(|row| {
        Ok(AccountRow {
            account_id: row.account_id,
            kind: kind(&row.kind)?,
            amount: units(row.amount)?,
            currency: row.currency,
        })
    })
    .fetch_all(&mut *transaction)
    .await
    .context("reading movements of accounts")?;
    transaction.commit().await?;
    Ok(rows)
}

fn kind(name: &str) -> sqlx::Result<Kind> {
    Kind::parse(name).ok_or_else(|| {
        sqlx::Error::Decode(anyhow!("the ledger has the unknown type {name:?}").into())
    })
}

fn units(amount: Decimal) -> sqlx::Result<Units> {
    Units::of(amount)
        .ok_or_else(|| sqlx::Error::Decode(anyhow!("the ledger has the amount {amount}").into()))
}
