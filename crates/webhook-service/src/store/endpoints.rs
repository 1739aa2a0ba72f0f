//! The endpoints, for the API. A change of what is delivered ends the lease: its holder settles
//! nothing any more. The entry in the audit log is stored with the change.

use account_service::store::AuditAction;
use audit_log::Actor;
use runtime::postgres::PgPool;
use sqlx::{PgExecutor, types::Uuid};
use time::OffsetDateTime;

use super::{
    StoreError, audit,
    secrets::{SecretToStore, insert_secret},
    settle::{renew_deliveries, set_retry_at},
};

/// A new endpoint.
#[derive(Debug)]
pub struct EndpointToStore<'a> {
    pub id: Uuid,
    /// `None`: the events of all accounts.
    pub owner: Option<&'a str>,
    pub url: &'a str,
    pub description: Option<&'a str>,
    pub types: Option<&'a [i16]>,
    pub created_by: &'a str,
    pub idempotency_key: Option<&'a str>,
    pub request_hash: [u8; 32],
}

/// A stored endpoint.
#[derive(Debug, Clone)]
pub struct EndpointRow {
    pub id: Uuid,
    pub owner_id: Option<String>,
    pub url: String,
    pub description: Option<String>,
    pub types: Option<Vec<i16>>,
    pub created_by: String,
    pub request_hash: Vec<u8>,
    pub created_at: OffsetDateTime,
    pub updated_at: OffsetDateTime,
    pub enabled: bool,
    pub disabled_because: Option<String>,
    pub failures: i32,
    pub failing_since: Option<OffsetDateTime>,
    pub last_error: Option<String>,
    pub last_failed_at: Option<OffsetDateTime>,
    pub last_delivered_at: Option<OffsetDateTime>,
    /// When a delivery is due. `None`: nothing waits, or the endpoint is disabled.
    pub next_attempt_at: Option<OffsetDateTime>,
}

/// What became of a new endpoint.
#[derive(Debug)]
pub enum Insertion {
    Stored(Box<EndpointRow>),
    /// The creator has used the idempotency key before.
    KeyUsed,
    /// The owner has as many endpoints as allowed.
    TooMany,
}

/// Stores an endpoint with its first key, if its owner has at most `most` endpoints then. It begins
/// at the end of the log.
///
/// # Errors
/// [`StoreError`]. The endpoint may be stored nevertheless.
pub async fn insert_endpoint(
    pool: &PgPool,
    endpoint: &EndpointToStore<'_>,
    secret: &SecretToStore<'_>,
    creator: Actor<'_>,
    most: i64,
) -> Result<Insertion, StoreError> {
    let mut transaction = pool.begin().await?;
    // Creations of an owner count one after the other.
    sqlx::query!(
        "SELECT pg_advisory_xact_lock(hashtextextended('webhook endpoints of ' || $1, 0))",
        endpoint.owner.unwrap_or_default(),
    )
    .execute(&mut *transaction)
    .await?;
    let row = sqlx::query_as!(
        EndpointRow,
        "WITH fanout AS (SELECT position FROM webhook_fanout WHERE only_row FOR SHARE)
         INSERT INTO webhook_endpoints (id, owner_id, url, description, types, created_by,
             idempotency_key, request_hash, position, announced)
         SELECT $1, $2, $3, $4, $5, $6, $7, $8, position, position FROM fanout
         ON CONFLICT (created_by, idempotency_key) DO NOTHING
         RETURNING id, owner_id, url, description, types, created_by, request_hash, created_at,
             updated_at, enabled, disabled_because, failures, failing_since, last_error,
             last_failed_at, last_delivered_at,
             CASE WHEN enabled THEN nullif(least(retry_at, CASE WHEN announced > position
                 THEN greatest(not_before, created_at) ELSE 'infinity' END), 'infinity') END
                 AS next_attempt_at",
        endpoint.id,
        endpoint.owner,
        endpoint.url,
        endpoint.description,
        endpoint.types,
        endpoint.created_by,
        endpoint.idempotency_key,
        &endpoint.request_hash,
    )
    .fetch_optional(&mut *transaction)
    .await?;
    let Some(row) = row else {
        transaction.rollback().await?;
        return Ok(Insertion::KeyUsed);
    };
    if count_endpoints(&mut *transaction, endpoint.owner).await? > most {
        transaction.rollback().await?;
        return Ok(Insertion::TooMany);
    }
    insert_secret(&mut *transaction, endpoint.id, secret).await?;
    let details = audit::identity(endpoint.owner, endpoint.url);
    let action = AuditAction::WebhookEndpointCreated;
    audit::add(&mut *transaction, creator, action, endpoint.id, details).await?;
    transaction.commit().await?;
    Ok(Insertion::Stored(Box::new(row)))
}

/// The number of an owner's endpoints; of those for all accounts without an owner.
async fn count_endpoints(
    database: impl PgExecutor<'_>,
    owner: Option<&str>,
) -> Result<i64, StoreError> {
    let count = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM webhook_endpoints
           WHERE owner_id IS NOT DISTINCT FROM $1"#,
        owner,
    );
    Ok(count.fetch_one(database).await?)
}

/// The endpoint with this id.
///
/// # Errors
/// [`StoreError`]
pub async fn find_endpoint(
    database: impl PgExecutor<'_>,
    id: Uuid,
) -> Result<Option<EndpointRow>, StoreError> {
    let row = sqlx::query_as!(
        EndpointRow,
        "SELECT id, owner_id, url, description, types, created_by, request_hash, created_at,
             updated_at, enabled, disabled_because, failures, failing_since, last_error,
             last_failed_at, last_delivered_at,
             CASE WHEN enabled THEN nullif(least(retry_at, CASE WHEN announced > position
                 THEN greatest(not_before, created_at) ELSE 'infinity' END), 'infinity') END
                 AS next_attempt_at
         FROM webhook_endpoints WHERE id = $1",
        id,
    );
    Ok(row.fetch_optional(database).await?)
}

/// The endpoint that this creator has made with this idempotency key.
///
/// # Errors
/// [`StoreError`]
pub async fn find_endpoint_by_key(
    database: impl PgExecutor<'_>,
    created_by: &str,
    idempotency_key: &str,
) -> Result<Option<EndpointRow>, StoreError> {
    let row = sqlx::query_as!(
        EndpointRow,
        "SELECT id, owner_id, url, description, types, created_by, request_hash, created_at,
             updated_at, enabled, disabled_because, failures, failing_since, last_error,
             last_failed_at, last_delivered_at,
             CASE WHEN enabled THEN nullif(least(retry_at, CASE WHEN announced > position
                 THEN greatest(not_before, created_at) ELSE 'infinity' END), 'infinity') END
                 AS next_attempt_at
         FROM webhook_endpoints WHERE created_by = $1 AND idempotency_key = $2",
        created_by,
        idempotency_key,
    );
    Ok(row.fetch_optional(database).await?)
}

/// The endpoints with ids below `before`, newest first: an owner's, or all.
///
/// # Errors
/// [`StoreError`]
pub async fn list_endpoints(
    database: impl PgExecutor<'_>,
    owner: Option<&str>,
    before: Option<Uuid>,
    limit: u16,
) -> Result<Vec<EndpointRow>, StoreError> {
    let rows = sqlx::query_as!(
        EndpointRow,
        "SELECT id, owner_id, url, description, types, created_by, request_hash, created_at,
             updated_at, enabled, disabled_because, failures, failing_since, last_error,
             last_failed_at, last_delivered_at,
             CASE WHEN enabled THEN nullif(least(retry_at, CASE WHEN announced > position
                 THEN greatest(not_before, created_at) ELSE 'infinity' END), 'infinity') END
                 AS next_attempt_at
         FROM webhook_endpoints WHERE ($1::text IS NULL OR owner_id = $1) AND id < $2
         ORDER BY id DESC LIMIT $3",
        owner,
        before.unwrap_or(Uuid::max()),
        i64::from(limit),
    );
    Ok(rows.fetch_all(database).await?)
}

/// What a request changes. `None` keeps a value.
#[derive(Debug, Default)]
pub struct EndpointChanges<'a> {
    pub url: Option<&'a str>,
    /// `Some(None)` removes it.
    pub description: Option<Option<&'a str>>,
    /// `Some(None)`: all types.
    pub types: Option<Option<&'a [i16]>>,
    pub enabled: Option<bool>,
}

impl EndpointChanges<'_> {
    /// Whether the failures of the endpoint end: it is enabled, or has a new URL.
    fn end_failures(&self, old: &EndpointRow) -> bool {
        let is_enabled = self.enabled == Some(true) && (!old.enabled || old.failures > 0);
        is_enabled || self.url.is_some_and(|url| url != old.url)
    }

    /// Whether something else is delivered, or elsewhere.
    fn change_deliveries(&self, old: &EndpointRow) -> bool {
        self.end_failures(old)
            || self.types.is_some_and(|types| types != old.types.as_deref())
            || self.enabled.is_some_and(|enabled| enabled != old.enabled)
    }

    fn change_description(&self, old: &EndpointRow) -> bool {
        self.description.is_some_and(|text| text != old.description.as_deref())
    }
}

/// Changes an endpoint. Enabling it, or a new URL, ends its failures, and makes its failed
/// deliveries due. What changes nothing writes nothing. `None` without such an endpoint.
///
/// # Errors
/// [`StoreError`]. The endpoint may be changed nevertheless.
pub async fn update_endpoint(
    pool: &PgPool,
    id: Uuid,
    changes: &EndpointChanges<'_>,
    changed_by: Actor<'_>,
) -> Result<Option<EndpointRow>, StoreError> {
    let mut transaction = pool.begin().await?;
    let Some(old) = lock_endpoint(&mut *transaction, id).await? else { return Ok(None) };
    let changes_deliveries = changes.change_deliveries(&old);
    if !changes_deliveries && !changes.change_description(&old) {
        transaction.rollback().await?;
        return Ok(Some(old));
    }
    let mut new = sqlx::query_as!(
        EndpointRow,
        "UPDATE webhook_endpoints
         SET url = coalesce($2, url),
             description = CASE WHEN $3 THEN $4 ELSE description END,
             types = CASE WHEN $5 THEN $6 ELSE types END,
             enabled = coalesce($7, enabled),
             disabled_because = CASE coalesce($7, enabled)
                 WHEN true THEN NULL ELSE coalesce(disabled_because, 'request') END,
             failures = CASE WHEN $8 THEN 0 ELSE failures END,
             failing_since = CASE WHEN $8 THEN NULL ELSE failing_since END,
             not_before = CASE WHEN $8 THEN clock_timestamp()
                 WHEN $9 THEN greatest(not_before, clock_timestamp()) ELSE not_before END,
             pause = CASE WHEN $8 THEN 0 ELSE pause END,
             is_slow = is_slow OR ($9 AND lease_until > clock_timestamp()),
             fence = CASE WHEN $9 THEN webhook_fence() ELSE fence END,
             lease_until = CASE WHEN $9 THEN '-infinity' ELSE lease_until END,
             updated_at = now()
         WHERE id = $1
         RETURNING id, owner_id, url, description, types, created_by, request_hash, created_at,
             updated_at, enabled, disabled_because, failures, failing_since, last_error,
             last_failed_at, last_delivered_at,
             CASE WHEN enabled THEN nullif(least(retry_at, CASE WHEN announced > position
                 THEN greatest(not_before, created_at) ELSE 'infinity' END), 'infinity') END
                 AS next_attempt_at",
        id,
        changes.url,
        changes.description.is_some(),
        changes.description.flatten(),
        changes.types.is_some(),
        changes.types.flatten(),
        changes.enabled,
        changes.end_failures(&old),
        changes_deliveries,
    )
    .fetch_one(&mut *transaction)
    .await?;
    if changes.end_failures(&old) {
        renew_deliveries(&mut *transaction, id, old.failing_since).await?;
    }
    if changes_deliveries {
        set_retry_at(&mut transaction, &[id]).await?;
        if let Some(row) = find_endpoint(&mut *transaction, id).await? {
            new = row;
        }
    }
    if let Some(details) = audit::change(&old, &new) {
        let action = AuditAction::WebhookEndpointChanged;
        audit::add(&mut *transaction, changed_by, action, id, details).await?;
    }
    transaction.commit().await?;
    Ok(Some(new))
}

/// The endpoint, with a lock that keeps it as it is.
pub(super) async fn lock_endpoint(
    database: impl PgExecutor<'_>,
    id: Uuid,
) -> Result<Option<EndpointRow>, StoreError> {
    let row = sqlx::query_as!(
        EndpointRow,
        "SELECT id, owner_id, url, description, types, created_by, request_hash, created_at,
             updated_at, enabled, disabled_because, failures, failing_since, last_error,
             last_failed_at, last_delivered_at,
             CASE WHEN enabled THEN nullif(least(retry_at, CASE WHEN announced > position
                 THEN greatest(not_before, created_at) ELSE 'infinity' END), 'infinity') END
                 AS next_attempt_at
         FROM webhook_endpoints WHERE id = $1 FOR NO KEY UPDATE",
        id,
    );
    Ok(row.fetch_optional(database).await?)
}

/// Deletes an endpoint with its keys and deliveries. Gives whether there was one.
///
/// # Errors
/// [`StoreError`]. The endpoint may be deleted nevertheless.
pub async fn delete_endpoint(
    pool: &PgPool,
    id: Uuid,
    deleted_by: Actor<'_>,
) -> Result<bool, StoreError> {
    let mut transaction = pool.begin().await?;
    let deleted =
        sqlx::query!("DELETE FROM webhook_endpoints WHERE id = $1 RETURNING owner_id, url", id);
    let Some(deleted) = deleted.fetch_optional(&mut *transaction).await? else {
        return Ok(false);
    };
    let details = audit::identity(deleted.owner_id.as_deref(), &deleted.url);
    let action = AuditAction::WebhookEndpointDeleted;
    audit::add(&mut *transaction, deleted_by, action, id, details).await?;
    transaction.commit().await?;
    Ok(true)
}
