//! Reads the log.

use contract::UserId;
use runtime::postgres::PgPool;
use sqlx::types::Uuid;
use time::OffsetDateTime;

/// A stored entry.
#[derive(Debug, Clone)]
pub struct AuditRow {
    pub id: Uuid,
    pub created_at: OffsetDateTime,
    pub actor: String,
    pub api_key_id: Option<Uuid>,
    /// Of this release or a later one.
    pub action: String,
    /// The path of the resource.
    pub resource: String,
    /// A JSON object of strings.
    pub details: String,
}

/// Which entries to list. `None` filters nothing.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    pub actor: Option<UserId>,
    pub action: Option<&'static str>,
    pub resource: Option<String>,
}

/// Entries with ids below `before`, newest first. Each combination of filters has an index; of a
/// resource, there are few entries.
///
/// # Errors
/// The database's.
pub async fn list(
    pool: &PgPool,
    filter: &AuditFilter,
    before: Option<Uuid>,
    limit: u16,
) -> sqlx::Result<Vec<AuditRow>> {
    let (before, limit) = (before.unwrap_or(Uuid::max()), i64::from(limit));
    let (actor, action) = (filter.actor.as_ref().map(UserId::as_str), filter.action);
    match (filter.resource.as_deref(), actor, action) {
        (Some(resource), actor, action) => {
            sqlx::query_as!(
                AuditRow,
                "SELECT id, created_at, actor, api_key_id, action, resource,
                     details::text AS \"details!\"
                 FROM audit_log
                 WHERE resource = $1 AND id < $2 AND ($4::text IS NULL OR actor = $4)
                     AND ($5::text IS NULL OR action = $5)
                 ORDER BY id DESC LIMIT $3",
                resource,
                before,
                limit,
                actor,
                action,
            )
            .fetch_all(pool)
            .await
        }
        (None, Some(actor), Some(action)) => {
            sqlx::query_as!(
                AuditRow,
                "SELECT id, created_at, actor, api_key_id, action, resource,
                     details::text AS \"details!\"
                 FROM audit_log WHERE actor = $1 AND action = $2 AND id < $3
                 ORDER BY id DESC LIMIT $4",
                actor,
                action,
                before,
                limit,
            )
            .fetch_all(pool)
            .await
        }
        (None, Some(actor), None) => {
            sqlx::query_as!(
                AuditRow,
                "SELECT id, created_at, actor, api_key_id, action, resource,
                     details::text AS \"details!\"
                 FROM audit_log WHERE actor = $1 AND id < $2 ORDER BY id DESC LIMIT $3",
                actor,
                before,
                limit,
            )
            .fetch_all(pool)
            .await
        }
        (None, None, Some(action)) => {
            sqlx::query_as!(
                AuditRow,
                "SELECT id, created_at, actor, api_key_id, action, resource,
                     details::text AS \"details!\"
                 FROM audit_log WHERE action = $1 AND id < $2 ORDER BY id DESC LIMIT $3",
                action,
                before,
                limit,
            )
            .fetch_all(pool)
            .await
        }
        (None, None, None) => {
            sqlx::query_as!(
                AuditRow,
                "SELECT id, created_at, actor, api_key_id, action, resource,
                     details::text AS \"details!\"
                 FROM audit_log WHERE id < $1 ORDER BY id DESC LIMIT $2",
                before,
                limit,
            )
            .fetch_all(pool)
            .await
        }
    }
}
