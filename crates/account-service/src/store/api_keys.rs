//! The keys of machines. Only their hashes are stored.

use std::{collections::HashMap, time::SystemTime};

use audit_log::Actor;
use contract::{ApiKeyId, Scopes, UserId};
use runtime::{
    http::{
        bearer::{ApiKey, ApiKeyHash},
        idempotency_key::IdempotencyKey,
    },
    postgres::PgPool,
};
use sha2::{Digest, Sha256};
use sqlx::{PgExecutor, types::Uuid};
use time::OffsetDateTime;

use super::StoreError;

/// A request to create a key.
#[derive(Debug)]
pub struct ApiKeyRequest {
    pub name: String,
    /// The caller of requests with the key; by default the key itself.
    pub user_id: Option<UserId>,
    pub scopes: Scopes,
    pub expires_at: Option<OffsetDateTime>,
}

impl ApiKeyRequest {
    /// Two requests with one idempotency key are the same request if their hashes are equal.
    fn hash(&self) -> [u8; 32] {
        let user = self.user_id.as_ref().map_or("", UserId::as_str);
        let expires = self.expires_at.map(OffsetDateTime::unix_timestamp_nanos);
        // The name comes last: no other part has a line break.
        let parts = format!("api key\n{user}\n{}\n{expires:?}\n{}", self.scopes, self.name);
        Sha256::digest(parts).into()
    }
}

/// A key to store for a request.
#[derive(Debug)]
pub struct KeyToStore<'a> {
    pub id: ApiKeyId,
    pub secret_hash: ApiKeyHash,
    pub prefix: &'a str,
    pub user_id: &'a UserId,
    pub expires_at: OffsetDateTime,
}

/// A stored key, without its secret.
#[derive(Debug, Clone)]
pub struct ApiKeyRow {
    pub id: Uuid,
    /// The beginning of the key.
    pub prefix: String,
    pub name: String,
    pub user_id: String,
    /// Names with a blank between them.
    pub scopes: String,
    pub created_by: String,
    pub created_at: OffsetDateTime,
    pub expires_at: OffsetDateTime,
    pub revoked_at: Option<OffsetDateTime>,
}

/// An earlier request with the same idempotency key.
#[derive(Debug)]
pub enum Creation {
    /// The same request created this key.
    Same(ApiKeyRow),
    /// Another request.
    Other,
}

/// Stores a new key, with its entry in the audit log. `None` if the creator has used the idempotency
/// key before.
///
/// # Errors
/// [`StoreError`]. The key may be stored nevertheless.
pub async fn create_api_key(
    pool: &PgPool,
    request: &ApiKeyRequest,
    key: &KeyToStore<'_>,
    created_by: Actor<'_>,
    idempotency_key: Option<&IdempotencyKey>,
) -> Result<Option<ApiKeyRow>, StoreError> {
    let row = sqlx::query_as!(
        ApiKeyRow,
        "WITH created AS (
             INSERT INTO api_keys (id, secret_hash, prefix, name, user_id, scopes, created_by,
                 idempotency_key, request_hash, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
             ON CONFLICT (created_by, idempotency_key) DO NOTHING
             RETURNING id, prefix, name, user_id, scopes, created_by, created_at, expires_at,
                 revoked_at
         ), audited AS (
             INSERT INTO audit_log (id, actor, api_key_id, action, resource, details)
             SELECT $11, created_by, $12, 'api-key.created', '/v1/api-keys/' || id,
                 jsonb_build_object('userId', user_id, 'scopes', scopes)
             FROM created
         )
         SELECT id, prefix, name, user_id, scopes, created_by, created_at, expires_at, revoked_at
         FROM created",
        key.id.as_uuid(),
        &key.secret_hash,
        key.prefix,
        request.name,
        key.user_id.as_str(),
        request.scopes.to_string(),
        created_by.user_id.as_str(),
        idempotency_key.map(IdempotencyKey::as_str),
        &request.hash(),
        key.expires_at,
        created_by.entry.as_uuid(),
        created_by.api_key_id(),
    )
    .fetch_optional(pool)
    .await?;
    Ok(row)
}

/// The earlier request of this creator with this idempotency key.
///
/// # Errors
/// [`StoreError`]
pub async fn find_creation(
    database: impl PgExecutor<'_>,
    request: &ApiKeyRequest,
    created_by: &UserId,
    idempotency_key: &IdempotencyKey,
) -> Result<Option<Creation>, StoreError> {
    let row = sqlx::query!(
        "SELECT request_hash, id, prefix, name, user_id, scopes, created_by, created_at,
             expires_at, revoked_at
         FROM api_keys WHERE created_by = $1 AND idempotency_key = $2",
        created_by.as_str(),
        idempotency_key.as_str(),
    )
    .fetch_optional(database)
    .await?;
    let Some(row) = row else { return Ok(None) };
    if row.request_hash != request.hash() {
        return Ok(Some(Creation::Other));
    }
    Ok(Some(Creation::Same(ApiKeyRow {
        id: row.id,
        prefix: row.prefix,
        name: row.name,
        user_id: row.user_id,
        scopes: row.scopes,
        created_by: row.created_by,
        created_at: row.created_at,
        expires_at: row.expires_at,
        revoked_at: row.revoked_at,
    })))
}

/// The keys with these hashes that are not revoked.
///
/// # Errors
/// [`StoreError`]
pub async fn find_api_keys(
    database: impl PgExecutor<'_>,
    hashes: &[ApiKeyHash],
) -> Result<HashMap<ApiKeyHash, Result<ApiKey, StoreError>>, StoreError> {
    let rows = sqlx::query!(
        "SELECT id, secret_hash, user_id, scopes, expires_at FROM api_keys
         WHERE secret_hash = ANY($1) AND revoked_at IS NULL",
        &hashes.iter().map(|hash| hash.to_vec()).collect::<Vec<_>>(),
    )
    .fetch_all(database)
    .await?;
    let keys = rows.into_iter().filter_map(|row| {
        let hash = ApiKeyHash::try_from(row.secret_hash).ok()?;
        let invalid = |_| StoreError::InvalidRow(format!("API key {}", row.id));
        let key = UserId::try_from(row.user_id).map_err(invalid).map(|user_id| ApiKey {
            id: ApiKeyId::from_uuid(row.id),
            user_id,
            scopes: Scopes::parse(&row.scopes),
            expires_at: SystemTime::from(row.expires_at),
        });
        Some((hash, key))
    });
    Ok(keys.collect())
}

/// All keys with ids below `before`, newest first, by the primary key.
///
/// # Errors
/// [`StoreError`]
pub async fn list_api_keys(
    database: impl PgExecutor<'_>,
    before: Option<Uuid>,
    limit: u16,
) -> Result<Vec<ApiKeyRow>, StoreError> {
    let rows = sqlx::query_as!(
        ApiKeyRow,
        "SELECT id, prefix, name, user_id, scopes, created_by, created_at, expires_at, revoked_at
         FROM api_keys WHERE id < $1 ORDER BY id DESC LIMIT $2",
        before.unwrap_or(Uuid::max()),
        i64::from(limit),
    )
    .fetch_all(database)
    .await?;
    Ok(rows)
}

/// Revokes a key, with an entry in the audit log, unless it is revoked. Gives whether the key exists.
///
/// # Errors
/// [`StoreError`]. The key may be revoked nevertheless.
pub async fn revoke_api_key(
    database: impl PgExecutor<'_>,
    id: ApiKeyId,
    revoked_by: Actor<'_>,
) -> Result<bool, StoreError> {
    let exists = sqlx::query_scalar!(
        r#"WITH revoked AS (
               UPDATE api_keys SET revoked_at = now() WHERE id = $1 AND revoked_at IS NULL
               RETURNING id
           ), audited AS (
               INSERT INTO audit_log (id, actor, api_key_id, action, resource, details)
               SELECT $2, $3, $4, 'api-key.revoked', '/v1/api-keys/' || id, '{}' FROM revoked
           )
           SELECT EXISTS (SELECT FROM api_keys WHERE id = $1) AS "exists!""#,
        id.as_uuid(),
        revoked_by.entry.as_uuid(),
        revoked_by.user_id.as_str(),
        revoked_by.api_key_id(),
    )
    .fetch_one(database)
    .await?;
    Ok(exists)
}
