//! What the webhook-service may do in the account database: read the event log, write the tables
//! of webhooks, and add to the audit log. The secrets of endpoints are hidden from everyone else.

use anyhow::Result;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::provision::{AUDITOR, WEBHOOK_SERVICE};

/// Tables of the account-service that it reads: the log, what events tell, and API keys.
const READS: &str = "events, event_id_key, accounts, transaction_records, api_keys, \
                     webhook_fanout, webhook_endpoints, webhook_secrets, webhook_deliveries, \
                     webhook_late_announcements, _sqlx_migrations";

/// What it writes.
const WRITES: &str = "
    UPDATE (position) ON webhook_fanout;
    INSERT (id, owner_id, url, description, types, created_by, idempotency_key, request_hash,
            position, announced),
        UPDATE (url, description, types, updated_at, enabled, disabled_because, position,
            announced, fence, lease_until, not_before, retry_at, failures, failing_since,
            last_error, last_failed_at, last_delivered_at, pause, is_slow),
        DELETE ON webhook_endpoints;
    INSERT (id, endpoint_id, algorithm, sealed, public_key), UPDATE (sealed, expires_at),
        DELETE ON webhook_secrets;
    INSERT (endpoint_id, position, attempts, next_attempt_at, delay, last_error, last_attempt_at),
        UPDATE (attempts, next_attempt_at, delay, last_error, last_attempt_at),
        DELETE ON webhook_deliveries;
    INSERT (endpoint_id, position), UPDATE (position), DELETE ON webhook_late_announcements;
    INSERT (id, actor, api_key_id, action, resource, details) ON audit_log";

/// Grants the role its privileges, if it exists, and hides the secrets from the roles that may read
/// new tables.
pub(super) async fn grant(connection: &mut PgConnection) -> Result<()> {
    let writes: String = WRITES
        .split(';')
        .map(|write| format!("GRANT {} TO {WEBHOOK_SERVICE};\n", write.trim()))
        .collect();
    let hidden: String = ["account_service", AUDITOR].map(hide_secrets).concat();
    let grants = format!(
        "{hidden}
         DO $$ BEGIN IF to_regrole('{WEBHOOK_SERVICE}') IS NOT NULL THEN
             GRANT USAGE ON SCHEMA public TO {WEBHOOK_SERVICE};
             GRANT SELECT ON {READS} TO {WEBHOOK_SERVICE};
             {writes}
         END IF; END $$"
    );
    sqlx::raw_sql(AssertSqlSafe(grants)).execute(connection).await?;
    Ok(())
}

/// Statements that take the secrets of webhooks from a role that may read all other tables.
pub(super) fn hide_secrets(role: &str) -> String {
    format!(
        "DO $$ BEGIN
             IF to_regclass('public.webhook_secrets') IS NOT NULL
                 AND to_regrole('{role}') IS NOT NULL
             THEN REVOKE SELECT ON webhook_secrets FROM {role}; END IF;
         END $$;\n"
    )
}
