//! The audit log: who did what to which resource. Rows are only added, each by the statement that
//! does what it tells.

use contract::{ApiKeyId, AuditEntryId, UserId};
use runtime::{http::bearer::Caller, postgres::PgPool};
use sqlx::types::Uuid;
use time::OffsetDateTime;

use super::StoreError;

/// What is audited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditAction {
    /// A caller opened an account for another owner.
    AccountCreated,
    ApiKeyCreated,
    ApiKeyRevoked,
    WebhookEndpointCreated,
    WebhookEndpointChanged,
    WebhookSecretRotated,
    /// A caller asked for events to be delivered again.
    WebhookRedeliveryRequested,
    WebhookEndpointDeleted,
    /// The webhook-service disabled an endpoint.
    WebhookEndpointDisabled,
}

impl AuditAction {
    pub const ALL: [Self; 9] = [
        Self::AccountCreated,
        Self::ApiKeyCreated,
        Self::ApiKeyRevoked,
        Self::WebhookEndpointCreated,
        Self::WebhookEndpointChanged,
        Self::WebhookSecretRotated,
        Self::WebhookRedeliveryRequested,
        Self::WebhookEndpointDeleted,
        Self::WebhookEndpointDisabled,
    ];

    /// Its name in the API and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AccountCreated => "account.created",
            Self::ApiKeyCreated => "api-key.created",
            Self::ApiKeyRevoked => "api-key.revoked",
            Self::WebhookEndpointCreated => "webhook-endpoint.created",
            Self::WebhookEndpointChanged => "webhook-endpoint.changed",
            Self::WebhookSecretRotated => "webhook-endpoint.secret-rotated",
            Self::WebhookRedeliveryRequested => "webhook-endpoint.redelivery-requested",
            Self::WebhookEndpointDeleted => "webhook-endpoint.deleted",
            Self::WebhookEndpointDisabled => "webhook-endpoint.disabled",
        }
    }

    /// The action with this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == name)
    }
}

/// The caller of an audited action, and the id of its entry.
#[derive(Debug, Clone, Copy)]
pub struct Actor<'a> {
    pub entry: AuditEntryId,
    pub user_id: &'a UserId,
    api_key: Option<ApiKeyId>,
}

impl<'a> Actor<'a> {
    /// With the id of a new entry.
    #[must_use]
    pub fn new(caller: &'a Caller) -> Self {
        let Caller { user_id, api_key, .. } = caller;
        Self { entry: AuditEntryId::new(), user_id, api_key: *api_key }
    }

    /// The API key that the caller used.
    #[must_use]
    pub fn api_key_id(self) -> Option<Uuid> {
        self.api_key.map(ApiKeyId::as_uuid)
    }
}

/// A stored entry.
#[derive(Debug, Clone)]
pub struct AuditRow {
    pub id: Uuid,
    pub created_at: OffsetDateTime,
    pub actor: String,
    pub api_key_id: Option<Uuid>,
    /// One of [`AuditAction`], or of a later release.
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
    pub action: Option<AuditAction>,
    pub resource: Option<String>,
}

/// Entries with ids below `before`, newest first. Each combination of filters has an index; of a
/// resource, there are few entries.
///
/// # Errors
/// [`StoreError`]
pub async fn list_audit_log(
    pool: &PgPool,
    filter: &AuditFilter,
    before: Option<Uuid>,
    limit: u16,
) -> Result<Vec<AuditRow>, StoreError> {
    let (before, limit) = (before.unwrap_or(Uuid::max()), i64::from(limit));
    let (actor, action) =
        (filter.actor.as_ref().map(UserId::as_str), filter.action.map(AuditAction::as_str));
    let rows = match (filter.resource.as_deref(), actor, action) {
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
            .await?
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
            .await?
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
            .await?
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
            .await?
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
            .await?
        }
    };
    Ok(rows)
}
