//! The keys of endpoints, sealed.

use account_service::store::AuditAction;
use audit_log::{Actor, Details};
use runtime::postgres::PgPool;
use sqlx::{PgExecutor, types::Uuid};

use super::{StoreError, audit, settle::set_retry_at};

/// Maximum keys that sign at a time.
const MAX_SECRETS: i64 = 5;

/// A new key.
#[derive(Debug)]
pub struct SecretToStore<'a> {
    pub id: Uuid,
    /// In the database's form.
    pub algorithm: i16,
    pub sealed: &'a [u8],
    pub public_key: Option<&'a [u8]>,
}

/// A stored key.
#[derive(Debug)]
pub struct SecretRow {
    pub id: Uuid,
    pub algorithm: i16,
    pub sealed: Vec<u8>,
}

/// The keys that sign now, the current one first.
///
/// # Errors
/// [`StoreError`]
pub async fn find_secrets(
    database: impl PgExecutor<'_>,
    endpoint: Uuid,
) -> Result<Vec<SecretRow>, StoreError> {
    let rows = sqlx::query_as!(
        SecretRow,
        "SELECT id, algorithm, sealed FROM webhook_secrets
         WHERE endpoint_id = $1 AND (expires_at IS NULL OR expires_at > clock_timestamp())
         ORDER BY expires_at DESC NULLS FIRST LIMIT $2",
        endpoint,
        MAX_SECRETS,
    );
    Ok(rows.fetch_all(database).await?)
}

/// The current key of an endpoint, as far as it is shown.
#[derive(Debug)]
pub struct CurrentKey {
    pub endpoint_id: Uuid,
    pub algorithm: i16,
    pub public_key: Option<Vec<u8>>,
}

/// The current keys of these endpoints.
///
/// # Errors
/// [`StoreError`]
pub async fn find_current_keys(
    database: impl PgExecutor<'_>,
    endpoints: &[Uuid],
) -> Result<Vec<CurrentKey>, StoreError> {
    let keys = sqlx::query_as!(
        CurrentKey,
        "SELECT endpoint_id, algorithm, public_key FROM webhook_secrets
         WHERE endpoint_id = ANY($1) AND expires_at IS NULL",
        endpoints,
    );
    Ok(keys.fetch_all(database).await?)
}

/// Makes a new key the current one. The one before signs for `overlap` seconds more. `None` if
/// there is no such endpoint, `false` if it has too many keys.
///
/// # Errors
/// [`StoreError`]. The key may be stored nevertheless.
pub async fn rotate_secret(
    pool: &PgPool,
    endpoint: Uuid,
    secret: &SecretToStore<'_>,
    overlap: f64,
    rotated_by: Actor<'_>,
) -> Result<Option<bool>, StoreError> {
    let mut transaction = pool.begin().await?;
    // The lease ends: its holder signs with the keys that it has read.
    let changed = sqlx::query!(
        "UPDATE webhook_endpoints
         SET fence = webhook_fence(), lease_until = '-infinity', updated_at = now(),
             is_slow = is_slow OR lease_until > clock_timestamp(),
             not_before = greatest(not_before, clock_timestamp())
         WHERE id = $1",
        endpoint,
    );
    if changed.execute(&mut *transaction).await?.rows_affected() == 0 {
        return Ok(None);
    }
    set_retry_at(&mut transaction, &[endpoint]).await?;
    sqlx::query!(
        "DELETE FROM webhook_secrets WHERE endpoint_id = $1 AND expires_at <= clock_timestamp()",
        endpoint,
    )
    .execute(&mut *transaction)
    .await?;
    let valid = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM webhook_secrets WHERE endpoint_id = $1"#,
        endpoint,
    );
    if valid.fetch_one(&mut *transaction).await? >= MAX_SECRETS {
        transaction.rollback().await?;
        return Ok(Some(false));
    }
    sqlx::query!(
        "UPDATE webhook_secrets SET expires_at = clock_timestamp() + make_interval(secs => $2)
         WHERE endpoint_id = $1 AND expires_at IS NULL",
        endpoint,
        overlap,
    )
    .execute(&mut *transaction)
    .await?;
    insert_secret(&mut *transaction, endpoint, secret).await?;
    let action = AuditAction::WebhookSecretRotated;
    audit::add(&mut *transaction, rotated_by, action, endpoint, Details::default()).await?;
    transaction.commit().await?;
    Ok(Some(true))
}

pub(super) async fn insert_secret(
    database: impl PgExecutor<'_>,
    endpoint: Uuid,
    secret: &SecretToStore<'_>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO webhook_secrets (id, endpoint_id, algorithm, sealed, public_key)
         VALUES ($1, $2, $3, $4, $5)",
        secret.id,
        endpoint,
        secret.algorithm,
        secret.sealed,
        secret.public_key,
    )
    .execute(database)
    .await?;
    Ok(())
}

/// A key that is sealed with another key than the present one.
#[derive(Debug)]
pub struct OldSeal {
    pub id: Uuid,
    pub endpoint_id: Uuid,
    pub sealed: Vec<u8>,
}

/// Some of the keys that sign, with ids above `after`, whose sealed form begins otherwise.
///
/// # Errors
/// [`StoreError`]
pub async fn find_old_seals(
    database: impl PgExecutor<'_>,
    present: &[u8],
    after: Uuid,
) -> Result<Vec<OldSeal>, StoreError> {
    let seals = sqlx::query_as!(
        OldSeal,
        "SELECT id, endpoint_id, sealed FROM webhook_secrets
         WHERE substring(sealed FROM 1 FOR octet_length($1::bytea)) <> $1 AND id > $2
             AND (expires_at IS NULL OR expires_at > clock_timestamp())
         ORDER BY id LIMIT 100",
        present,
        after,
    );
    Ok(seals.fetch_all(database).await?)
}

/// Replaces the sealed form of a key, unless it has changed, or another transaction holds it. Gives
/// whether it was replaced.
///
/// # Errors
/// [`StoreError`]. It may be replaced nevertheless.
pub async fn replace_seal(
    database: impl PgExecutor<'_>,
    old: &OldSeal,
    sealed: &[u8],
) -> Result<bool, StoreError> {
    let replaced = sqlx::query!(
        "UPDATE webhook_secrets SET sealed = $3
         WHERE id = (SELECT id FROM webhook_secrets WHERE id = $1 AND sealed = $2
                     FOR NO KEY UPDATE SKIP LOCKED)",
        old.id,
        old.sealed,
        sealed,
    );
    Ok(replaced.execute(database).await?.rows_affected() == 1)
}
