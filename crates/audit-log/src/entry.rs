//! New entries.

use contract::{ApiKeyId, AuditEntryId, UserId};
use runtime::http::bearer::Caller;
use serde_json::{Map, Value};
use sqlx::{PgExecutor, types::Uuid};

/// The caller of an audited action, and the id of its entry.
#[derive(Debug, Clone, Copy)]
pub struct Actor<'a> {
    pub entry: AuditEntryId,
    pub user_id: &'a UserId,
    pub api_key: Option<ApiKeyId>,
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

/// What an entry tells: names, and strings as their values. No secrets.
#[derive(Debug, Default)]
pub struct Details(Map<String, Value>);

impl Details {
    /// Adds a value, if there is one.
    #[must_use]
    pub fn with(mut self, name: &str, value: Option<&str>) -> Self {
        if let Some(value) = value {
            self.0.insert(name.to_owned(), value.into());
        }
        self
    }
}

/// Adds an entry. `resource` is a path of the API.
///
/// # Errors
/// The database's.
pub async fn add(
    database: impl PgExecutor<'_>,
    actor: Actor<'_>,
    action: &str,
    resource: &str,
    details: Details,
) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO audit_log (id, actor, api_key_id, action, resource, details)
         VALUES ($1, $2, $3, $4, $5, $6::text::jsonb)",
        actor.entry.as_uuid(),
        actor.user_id.as_str(),
        actor.api_key_id(),
        action,
        resource,
        Value::Object(details.0).to_string(),
    )
    .execute(database)
    .await?;
    Ok(())
}
