//! Stores the request for a report: the row is committed before the client is
//! answered, with its entry in the audit log.

use ::audit_log::Actor;
use contract::ReportId;
use runtime::postgres::PgPool;
use runtime::telemetry::trace::Trace;
use sqlx::PgConnection;

use super::{
    StoreError,
    audit_log::{self, AuditAction},
    reports::ReportRow,
};
use crate::report::{NewReport, Parameters, Report};

/// The outcome of storing a request.
#[derive(Debug)]
pub enum Accepted {
    /// The report was inserted, QUEUED.
    New(Report),
    /// The same request was stored before under this key, with this report.
    Replayed(Report),
    /// An open report has the same kind, parameters and ledger position.
    Joined(Report),
    /// Another request was stored before under this key.
    KeyReused,
    /// The caller has as many open reports as allowed. Nothing was stored.
    TooManyOpen,
}

/// Inserts a report, unless its key is taken, an open report is the same, or the caller has too many
/// open reports.
///
/// # Errors
/// [`StoreError`]. After an error the report may still be stored. A retry with the
/// same key finds it.
pub async fn insert(
    pool: &PgPool,
    new: &NewReport,
    trace: &Trace,
    caller: Actor<'_>,
) -> Result<Accepted, StoreError> {
    // An open report can end between the insert that it prevents and the search for it.
    const MAX_ATTEMPTS: usize = 3;
    for _ in 0..MAX_ATTEMPTS {
        let mut transaction = pool.begin().await?;
        if new.most_open.is_some() {
            lock_caller(&mut transaction, new).await?;
        }
        if new.unique_at.is_some() {
            // A key is in one of two tables: requests with the same key wait for each other.
            lock_key(&mut transaction, new).await?;
        }
        if let Some(accepted) = attempt(&mut transaction, new, trace, caller).await? {
            transaction.commit().await?;
            return Ok(accepted);
        }
        transaction.rollback().await?;
    }
    Err(StoreError::MissingReport)
}

/// Requests of a caller count its open reports one after the other.
async fn lock_caller(connection: &mut PgConnection, new: &NewReport) -> Result<(), StoreError> {
    sqlx::query!(
        "SELECT pg_advisory_xact_lock(hashtextextended('open reports of ' || $1, 0))",
        new.requested_by,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Whether the caller may have no further open report.
async fn has_too_many(connection: &mut PgConnection, new: &NewReport) -> Result<bool, StoreError> {
    let Some(most) = new.most_open else { return Ok(false) };
    let open = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM reports
           WHERE lane = 'default' AND state IN ('QUEUED', 'RUNNING') AND requested_by = $1"#,
        new.requested_by,
    );
    Ok(open.fetch_one(connection).await? >= i64::from(most))
}

async fn lock_key(connection: &mut PgConnection, new: &NewReport) -> Result<(), StoreError> {
    sqlx::query!(
        "SELECT pg_advisory_xact_lock(hashtextextended($1 || ' ' || $2, 0))",
        new.requested_by,
        new.key.as_str(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// `None` if another attempt is needed.
async fn attempt(
    connection: &mut PgConnection,
    new: &NewReport,
    trace: &Trace,
    caller: Actor<'_>,
) -> Result<Option<Accepted>, StoreError> {
    if let Some(accepted) = answered(connection, new).await? {
        return Ok(Some(accepted));
    }
    let is_full = has_too_many(connection, new).await?;
    if !is_full && let Some(report) = insert_once(connection, new, trace).await? {
        audit_log::add_new(&mut *connection, caller, new).await?;
        return Ok(Some(Accepted::New(report)));
    }
    // Another request took the key meanwhile, or an open report is the same.
    if let Some(accepted) = answered(connection, new).await? {
        return Ok(Some(accepted));
    }
    let Some(report) = open_with_hash(connection, new).await? else {
        return Ok(is_full.then_some(Accepted::TooManyOpen));
    };
    sqlx::query!(
        "INSERT INTO report_joins (requested_by, idempotency_key, request_hash, report_id)
         VALUES ($1, $2, $3, $4)",
        new.requested_by,
        new.key.as_str(),
        &new.request_hash()[..],
        report.id.as_uuid(),
    )
    .execute(&mut *connection)
    .await?;
    audit_log::add_of(connection, caller, AuditAction::Joined, &report).await?;
    Ok(Some(Accepted::Joined(report)))
}

/// The answer to an earlier request with the same key.
async fn answered(
    connection: &mut PgConnection,
    new: &NewReport,
) -> Result<Option<Accepted>, StoreError> {
    let taken = sqlx::query!(
        r#"SELECT id AS "id!", request_hash AS "request_hash!" FROM reports
           WHERE requested_by = $1 AND idempotency_key = $2
           UNION ALL
           SELECT report_id, request_hash FROM report_joins
           WHERE requested_by = $1 AND idempotency_key = $2"#,
        new.requested_by,
        new.key.as_str(),
    );
    let Some(taken) = taken.fetch_optional(&mut *connection).await? else { return Ok(None) };
    if taken.request_hash != new.request_hash() {
        return Ok(Some(Accepted::KeyReused));
    }
    let report = super::find(connection, ReportId::from_uuid(taken.id)).await?;
    report.map(|report| Some(Accepted::Replayed(report))).ok_or(StoreError::MissingReport)
}

/// `None` if the key is taken, or an open report is the same.
async fn insert_once(
    connection: &mut PgConnection,
    new: &NewReport,
    trace: &Trace,
) -> Result<Option<Report>, StoreError> {
    let account = match &new.parameters {
        Parameters::Statement { account_id, .. } => Some(account_id.as_uuid()),
        _ => None,
    };
    let formats: Vec<_> = new.formats.iter().map(|format| format.as_str().to_owned()).collect();
    let parameters = serde_json::to_value(&new.parameters).unwrap_or_default();
    let unique_hash = new.unique_hash();
    // `sent_at`: the caller sends the first message right after the commit.
    sqlx::query_as!(
        ReportRow,
        "INSERT INTO reports (id, kind, requested_by, account_id, account_owner, idempotency_key,
                request_hash, unique_hash, parameters, formats, retry_of, traceparent, sent_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, now())
         ON CONFLICT DO NOTHING
         RETURNING id, parameters, formats, requested_by, account_owner, state, attempt,
                cancel_requested, step, done, total, error, public_error, retry_of, created_at,
                updated_at",
        new.id.as_uuid(),
        new.parameters.kind().as_str(),
        new.requested_by,
        account,
        new.account_owner,
        new.key.as_str(),
        &new.request_hash()[..],
        unique_hash.as_ref().map(<[u8; 32]>::as_slice),
        parameters,
        &formats,
        new.retry_of.map(ReportId::as_uuid),
        trace.is_recorded().then(|| trace.traceparent()),
    )
    .fetch_optional(connection)
    .await?
    .map(Report::try_from)
    .transpose()
}

async fn open_with_hash(
    connection: &mut PgConnection,
    new: &NewReport,
) -> Result<Option<Report>, StoreError> {
    let hash = new.unique_hash();
    let open = sqlx::query_scalar!(
        "SELECT id FROM reports WHERE unique_hash = $1 AND state IN ('QUEUED', 'RUNNING')",
        hash.as_ref().map(<[u8; 32]>::as_slice),
    );
    match open.fetch_optional(&mut *connection).await? {
        Some(id) => super::find(connection, ReportId::from_uuid(id)).await,
        None => Ok(None),
    }
}
