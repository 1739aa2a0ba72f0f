//! Cancels reports, with an entry in the audit log.

use ::audit_log::Actor;
use contract::ReportId;
use runtime::postgres::PgPool;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    StoreError,
    audit_log::{self, AuditAction},
};
use crate::job::State;

/// The answer to a client's cancellation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancellation {
    /// The report is CANCELLED.
    Cancelled,
    /// It runs; its attempt ends soon.
    Requested,
    /// It had ended before, in this state.
    Ended(State),
    /// There is no such report.
    Missing,
}

/// Cancels a QUEUED report, or asks the attempt of a RUNNING one to end. To ask again has no entry.
///
/// # Errors
/// [`StoreError`]
pub async fn cancel(
    pool: &PgPool,
    id: ReportId,
    cancelled_by: Actor<'_>,
) -> Result<Cancellation, StoreError> {
    let mut transaction = pool.begin().await?;
    let locked = sqlx::query_scalar!(
        "SELECT state FROM reports WHERE id = $1 FOR NO KEY UPDATE",
        id.as_uuid()
    );
    locked.fetch_optional(&mut *transaction).await?;
    let Some(report) = super::find(&mut *transaction, id).await? else {
        return Ok(Cancellation::Missing);
    };
    let cancellation = match report.state {
        State::Queued => Cancellation::Cancelled,
        State::Running => Cancellation::Requested,
        ended => return Ok(Cancellation::Ended(ended)),
    };
    set_cancelled(&mut transaction, id.as_uuid(), cancellation).await?;
    if !report.cancel_requested {
        let action = AuditAction::Cancelled;
        audit_log::add_of(&mut *transaction, cancelled_by, action, &report).await?;
    }
    transaction.commit().await?;
    Ok(cancellation)
}

async fn set_cancelled(
    connection: &mut PgConnection,
    id: Uuid,
    cancellation: Cancellation,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE reports
         SET cancel_requested = true, updated_at = clock_timestamp(),
             state = CASE WHEN $2 THEN 'CANCELLED' ELSE state END,
             ended_at = CASE WHEN $2 THEN clock_timestamp() END
         WHERE id = $1",
        id,
        cancellation == Cancellation::Cancelled,
    )
    .execute(connection)
    .await?;
    Ok(())
}
