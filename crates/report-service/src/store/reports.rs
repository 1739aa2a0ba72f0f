//! Reads reports and their attempts.

use contract::ReportId;
use report_document::{Format, Kind};
use runtime::postgres::PgPool;
use sqlx::{PgExecutor, types::Uuid};
use time::OffsetDateTime;

use super::StoreError;
use crate::{
    job::State,
    report::{Attempt, Report},
};

pub(super) struct ReportRow {
    pub(super) id: Uuid,
    pub(super) parameters: serde_json::Value,
    pub(super) formats: Vec<String>,
    pub(super) requested_by: String,
    pub(super) account_owner: Option<String>,
    pub(super) state: String,
    pub(super) attempt: i32,
    pub(super) cancel_requested: bool,
    pub(super) step: Option<String>,
    pub(super) done: Option<i64>,
    pub(super) total: Option<i64>,
    pub(super) error: Option<String>,
    pub(super) public_error: Option<String>,
    pub(super) retry_of: Option<Uuid>,
    pub(super) created_at: OffsetDateTime,
    pub(super) updated_at: OffsetDateTime,
}

impl TryFrom<ReportRow> for Report {
    type Error = StoreError;

    fn try_from(row: ReportRow) -> Result<Self, StoreError> {
        let invalid = || StoreError::InvalidRow(row.id);
        let formats = row.formats.iter().map(|name| Format::parse(name).ok_or_else(invalid));
        Ok(Self {
            id: ReportId::from_uuid(row.id),
            formats: formats.collect::<Result<_, _>>()?,
            parameters: serde_json::from_value(row.parameters.clone()).map_err(|_| invalid())?,
            requested_by: row.requested_by.clone(),
            account_owner: row.account_owner.clone(),
            state: State::parse(&row.state).ok_or_else(invalid)?,
            attempt: row.attempt,
            cancel_requested: row.cancel_requested,
            step: row.step.clone(),
            done: row.done,
            total: row.total,
            error: row.error.clone(),
            public_error: row.public_error.clone(),
            retry_of: row.retry_of.map(ReportId::from_uuid),
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

/// A report.
///
/// # Errors
/// [`StoreError`]
pub async fn find(
    database: impl PgExecutor<'_>,
    id: ReportId,
) -> Result<Option<Report>, StoreError> {
    sqlx::query_as!(
        ReportRow,
        "SELECT id, parameters, formats, requested_by, account_owner, state, attempt,
                cancel_requested, step, done, total, error, public_error, retry_of, created_at,
                updated_at
         FROM reports WHERE id = $1",
        id.as_uuid(),
    )
    .fetch_optional(database)
    .await?
    .map(Report::try_from)
    .transpose()
}

/// The reports of a list.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only reports of this kind.
    pub kind: Option<Kind>,
    /// Only reports in this state.
    pub state: Option<State>,
    /// Only statements of this owner's accounts.
    pub owner: Option<String>,
}

/// Reports older than `before`, newest first.
///
/// # Errors
/// [`StoreError`]
pub async fn list(
    pool: &PgPool,
    filter: &Filter,
    before: Option<Uuid>,
    limit: u16,
) -> Result<Vec<Report>, StoreError> {
    let before = before.unwrap_or(Uuid::max());
    sqlx::query_as!(
        ReportRow,
        "SELECT id, parameters, formats, requested_by, account_owner, state, attempt,
                cancel_requested, step, done, total, error, public_error, retry_of, created_at,
                updated_at
         FROM reports
         WHERE id < $1 AND ($2::text IS NULL OR kind = $2) AND ($3::text IS NULL OR state = $3)
             AND ($4::text IS NULL OR account_owner = $4)
         ORDER BY id DESC LIMIT $5",
        before,
        filter.kind.map(Kind::as_str),
        filter.state.map(State::as_str),
        filter.owner.as_deref(),
        i64::from(limit),
    )
    .fetch_all(pool)
    .await?
    .into_iter()
    .map(Report::try_from)
    .collect()
}

/// The attempts of a report, in order.
///
/// # Errors
/// [`StoreError`]
pub async fn attempts_of(pool: &PgPool, id: ReportId) -> Result<Vec<Attempt>, StoreError> {
    let attempts = sqlx::query_as!(
        Attempt,
        "SELECT number, worker, started_at, ended_at, outcome, error
         FROM report_attempts WHERE report_id = $1 ORDER BY number",
        id.as_uuid(),
    );
    Ok(attempts.fetch_all(pool).await?)
}

/// The part of a report that changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glance {
    /// The state.
    pub state: State,
    /// The number of the latest attempt.
    pub attempt: i32,
    /// The step of the latest attempt.
    pub step: Option<String>,
    /// Rows done in this step.
    pub done: Option<i64>,
    /// Rows of this step, if known.
    pub total: Option<i64>,
}

/// The changing parts of these reports.
///
/// # Errors
/// [`StoreError`]
pub async fn glance(
    pool: &PgPool,
    ids: &[ReportId],
) -> Result<Vec<(ReportId, Glance)>, StoreError> {
    let ids: Vec<_> = ids.iter().map(|id| id.as_uuid()).collect();
    let rows = sqlx::query!(
        "SELECT id, state, attempt, step, done, total FROM reports WHERE id = ANY($1)",
        &ids
    );
    let rows = rows.fetch_all(pool).await?.into_iter().map(|row| {
        let state = State::parse(&row.state).ok_or(StoreError::InvalidRow(row.id))?;
        let (attempt, step, done, total) = (row.attempt, row.step, row.done, row.total);
        Ok((ReportId::from_uuid(row.id), Glance { state, attempt, step, done, total }))
    });
    rows.collect()
}
