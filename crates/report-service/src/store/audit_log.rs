//! Entries in the audit log about reports, each in the transaction that does what it tells.

use ::audit_log::{Actor, Details};
use contract::ReportId;
use sqlx::PgExecutor;

use super::StoreError;
use crate::report::{NewReport, Parameters, Report};

/// What is audited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditAction {
    Created,
    /// A request with `unique` was answered with an open report.
    Joined,
    /// A caller asked for an ended report again: as a new one.
    Retried,
    Cancelled,
}

impl AuditAction {
    pub const ALL: [Self; 4] = [Self::Created, Self::Joined, Self::Retried, Self::Cancelled];

    /// Its name in the API and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "report.created",
            Self::Joined => "report.joined",
            Self::Retried => "report.retried",
            Self::Cancelled => "report.cancelled",
        }
    }
}

/// A new report. Of a retry, the resource is the report that is retried.
pub(super) async fn add_new(
    database: impl PgExecutor<'_>,
    actor: Actor<'_>,
    new: &NewReport,
) -> Result<(), StoreError> {
    let details = about(&new.parameters, new.account_owner.as_deref());
    match new.retry_of {
        None => add(database, actor, AuditAction::Created, new.id, details).await,
        Some(retried) => {
            let details = details.with("reportId", Some(&new.id.to_string()));
            add(database, actor, AuditAction::Retried, retried, details).await
        }
    }
}

/// What a caller does to a report of perhaps another caller.
pub(super) async fn add_of(
    database: impl PgExecutor<'_>,
    actor: Actor<'_>,
    action: AuditAction,
    report: &Report,
) -> Result<(), StoreError> {
    let details = about(&report.parameters, report.account_owner.as_deref())
        .with("requestedBy", Some(&report.requested_by));
    add(database, actor, action, report.id, details).await
}

fn about(parameters: &Parameters, owner: Option<&str>) -> Details {
    let account = match parameters {
        Parameters::Statement { account_id, .. } => Some(account_id.to_string()),
        Parameters::Activity { .. } | Parameters::Reconciliation => None,
    };
    Details::default()
        .with("kind", Some(parameters.kind().as_str()))
        .with("accountId", account.as_deref())
        .with("ownerId", owner)
}

async fn add(
    database: impl PgExecutor<'_>,
    actor: Actor<'_>,
    action: AuditAction,
    report: ReportId,
    details: Details,
) -> Result<(), StoreError> {
    let resource = format!("/v1/reports/{report}");
    Ok(::audit_log::add(database, actor, action.as_str(), &resource, details).await?)
}
