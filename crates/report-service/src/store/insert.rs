//! Stores the request for a report: the row is committed before the client is
//! answered.

use runtime::telemetry::trace::Trace;
use sqlx::{PgPool, types::Uuid};

use super::{StoreError, reports::ReportRow};
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
}

const UNIQUE_HASH: &str = "reports_unique_hash_key";

/// Inserts a report, unless its key is taken, or an open report is the same.
///
/// # Errors
/// [`StoreError`]. After an error the report may still be stored. A retry with the
/// same key finds it.
pub async fn insert(pool: &PgPool, new: &NewReport, trace: &Trace) -> Result<Accepted, StoreError> {
    // An open report can end between the failed insert and the search for it.
    const MAX_ATTEMPTS: usize = 3;
    for _ in 0..MAX_ATTEMPTS {
        match insert_once(pool, new, trace).await {
            Ok(Some(report)) => return Ok(Accepted::New(report)),
            Ok(None) => return replayed(pool, new).await,
            Err(sqlx::Error::Database(error)) if error.constraint() == Some(UNIQUE_HASH) => {
                if let Some(report) = open_with_hash(pool, new).await? {
                    return Ok(Accepted::Joined(report));
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(StoreError::MissingReport)
}

/// `None` if the key is taken.
async fn insert_once(
    pool: &PgPool,
    new: &NewReport,
    trace: &Trace,
) -> sqlx::Result<Option<Report>> {
    let account = match &new.parameters {
        Parameters::Statement { account_id, .. } => Some(account_id.as_uuid()),
        _ => None,
    };
    let formats: Vec<_> = new.formats.iter().map(|format| format.as_str().to_owned()).collect();
    let parameters = serde_json::to_value(&new.parameters).unwrap_or_default();
    let unique_hash = new.unique_hash();
    // `sent_at`: the caller sends the first message right after the commit.
    let inserted = sqlx::query_as!(
        ReportRow,
        "INSERT INTO reports (id, kind, requested_by, account_id, account_owner, idempotency_key,
                request_hash, unique_hash, parameters, formats, retry_of, traceparent, sent_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, now())
         ON CONFLICT (requested_by, idempotency_key) DO NOTHING
         RETURNING id, parameters, formats, requested_by, account_owner, state, attempt,
                cancel_requested, step, done, total, error, retry_of, created_at, updated_at",
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
        new.retry_of.map(contract::ReportId::as_uuid),
        trace.is_recorded().then(|| trace.traceparent()),
    )
    .fetch_optional(pool)
    .await?;
    let report = inserted.map(Report::try_from).transpose();
    report.map_err(|error| sqlx::Error::Decode(error.into()))
}

async fn replayed(pool: &PgPool, new: &NewReport) -> Result<Accepted, StoreError> {
    let taken = sqlx::query!(
        "SELECT id, request_hash FROM reports WHERE requested_by = $1 AND idempotency_key = $2",
        new.requested_by,
        new.key.as_str(),
    );
    let taken = taken.fetch_optional(pool).await?.ok_or(StoreError::MissingReport)?;
    if taken.request_hash != new.request_hash() {
        return Ok(Accepted::KeyReused);
    }
    let report = super::find(pool, contract::ReportId::from_uuid(taken.id)).await?;
    report.map(Accepted::Replayed).ok_or(StoreError::MissingReport)
}

async fn open_with_hash(pool: &PgPool, new: &NewReport) -> Result<Option<Report>, StoreError> {
    let hash = new.unique_hash();
    let open: Option<Uuid> = sqlx::query_scalar!(
        "SELECT id FROM reports WHERE unique_hash = $1 AND state IN ('QUEUED', 'RUNNING')",
        hash.as_ref().map(<[u8; 32]>::as_slice),
    )
    .fetch_optional(pool)
    .await?;
    match open {
        Some(id) => super::find(pool, contract::ReportId::from_uuid(id)).await,
        None => Ok(None),
    }
}
