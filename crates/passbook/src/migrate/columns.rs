//! The columns that each service writes. A service may not change what it never writes: the owner
//! of an account, the movement of a record, the id of a transaction.
//!
//! A privilege on columns is added, and none of another release is taken away: two successive
//! releases run side by side. A migration that adds a column also adds it here.

use anyhow::Result;
use sqlx::{AssertSqlSafe, PgConnection};

use super::service;

/// The writes of a service to one of its tables. Each is a list of columns.
struct Writes {
    table: &'static str,
    insert: &'static str,
    update: &'static str,
    may_delete: bool,
}

const fn writes(table: &'static str, insert: &'static str, update: &'static str) -> Writes {
    Writes { table, insert, update, may_delete: false }
}

const NO_DATABASE: [Writes; 0] = [];

/// The last columns of an update may be there for the row lock only, which needs the privilege to
/// update some column.
fn of(database: &str) -> &'static [Writes] {
    const ACCOUNT: [Writes; 14] = [
        writes(
            "accounts",
            "account_id, owner_id, currency, reference, metadata, event_seq",
            "balance, account_seq, updated_at, event_seq",
        ),
        writes(
            "transaction_records",
            "id, account_id, idempotency_key, request_hash, user_id, type, amount, currency,
             traceparent, created_at, updated_at, reference, description, metadata, api_key_id",
            "status, transaction_id, reason, balance_after, account_seq, updated_at, redrives,
             redrive_at, announced",
        ),
        // The redrive removes settled records from its list.
        Writes {
            may_delete: true,
            ..writes("pending_records", "record_id, account_id, listed_at", "listed_at")
        },
        writes("account_keys", "caller, idempotency_key, request_hash, account_id", ""),
        // Its position is the database's.
        writes("events", "account_id, sequence, type, record_id, created_at", ""),
        writes("event_id_key", "", ""),
        // Rows are only added.
        writes("audit_log", "id, actor, api_key_id, action, resource, details", ""),
        // A key changes by its revocation only.
        writes(
            "api_keys",
            "id, secret_hash, prefix, name, user_id, scopes, created_by, idempotency_key,
             request_hash, expires_at",
            "revoked_at",
        ),
        // The webhook-service's own role writes these.
        writes("webhook_fanout", "", ""),
        writes("webhook_endpoints", "", ""),
        writes("webhook_secrets", "", ""),
        writes("webhook_deliveries", "", ""),
        writes("webhook_late_announcements", "", ""),
        writes("redrive_window", "", "floor, ceiling, left_floor, left_ceiling, moved_at"),
    ];
    const TRANSACTION: [Writes; 2] = [
        writes(
            "accounts",
            "account_id, currency, balance, account_seq, created_at, updated_at, chain_link,
             chain_hash",
            "balance, account_seq, updated_at, chain_link, chain_hash",
        ),
        // A decision is final. Its id is the database's.
        writes(
            "transactions",
            "record_id, account_id, type, amount, currency, status, reason, balance_after,
             account_seq, created_at, chain_link, chain_hash",
            "",
        ),
    ];
    const REPORT: [Writes; 6] = [
        writes(
            "reports",
            "id, kind, requested_by, account_id, account_owner, idempotency_key, request_hash,
             unique_hash, parameters, formats, retry_of, traceparent, sent_at",
            "state, attempt, fence, failures, not_before, sent_at, sends, lease_until, worker,
             cancel_requested, step, done, total, checkpoint, error, public_error, updated_at,
             ended_at",
        ),
        writes("report_joins", "requested_by, idempotency_key, request_hash, report_id", ""),
        writes(
            "report_attempts",
            "report_id, number, worker, started_at",
            "ended_at, outcome, error",
        ),
        writes(
            "report_artifacts",
            "report_id, format, attempt, path, size, sha256, signature, file_name, media_type,
             expires_at",
            "deleted_at",
        ),
        writes(
            "report_alerts",
            "report_id, payload",
            "tries, next_try_at, taken_at, dead_lettered_at, last_error",
        ),
        // Rows are only added.
        writes("audit_log", "id, actor, api_key_id, action, resource, details", ""),
    ];
    match database {
        "account" => &ACCOUNT,
        "transaction" => &TRANSACTION,
        "report" => &REPORT,
        _ => &NO_DATABASE,
    }
}

/// Revokes the writes to the tables that the service never writes, after each migration: a new table
/// has them by default, and later migrations may wait for long.
pub(super) async fn revoke_unwritten(connection: &mut PgConnection, database: &str) -> Result<()> {
    let role = service(database);
    let unwritten =
        of(database).iter().filter(|writes| writes.insert.is_empty() && writes.update.is_empty());
    let revokes: String = unwritten
        .map(|Writes { table, .. }| {
            // Without the table, the privilege is null.
            format!(
                "IF has_table_privilege('{role}', to_regclass('public.{table}'), 'INSERT, UPDATE')
                 THEN REVOKE INSERT, UPDATE ON public.{table} FROM {role}; END IF;\n"
            )
        })
        .collect();
    if_role_exists(connection, &role, &revokes).await
}

/// Limits the service's privileges to these columns, after the migrations.
pub(super) async fn limit(connection: &mut PgConnection, database: &str) -> Result<()> {
    let role = service(database);
    let mut limits = String::new();
    for Writes { table, insert, update, may_delete } in of(database) {
        // A revocation ends the privileges on columns too. So it is not repeated.
        limits.push_str(&format!(
            "IF has_table_privilege('{role}', 'public.{table}', 'INSERT, UPDATE') THEN
                 REVOKE INSERT, UPDATE ON public.{table} FROM {role};
             END IF;\n"
        ));
        for (privilege, columns) in [("INSERT", insert), ("UPDATE", update)] {
            if !columns.is_empty() {
                limits.push_str(&format!(
                    "GRANT {privilege} ({columns}) ON public.{table} TO {role};\n"
                ));
            }
        }
        if *may_delete {
            limits.push_str(&format!("GRANT DELETE ON public.{table} TO {role};\n"));
        }
    }
    if_role_exists(connection, &role, &limits).await
}

async fn if_role_exists(connection: &mut PgConnection, role: &str, statements: &str) -> Result<()> {
    let block =
        format!("DO $$ BEGIN IF to_regrole('{role}') IS NOT NULL THEN\n{statements}END IF; END $$");
    sqlx::raw_sql(AssertSqlSafe(block)).execute(connection).await?;
    Ok(())
}
