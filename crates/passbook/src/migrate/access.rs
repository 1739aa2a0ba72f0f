//! Who may connect to a database. By default, each role of a PostgreSQL server may connect to each of
//! its databases, so also a service to the database of another one.
//!
//! `passbook provision` limits this, too. But another administrator, such as a Kubernetes operator,
//! may have created the database.

use anyhow::Result;
use sqlx::{AssertSqlSafe, PgConnection};

/// The role with which CloudNativePG's operator reads the server's metrics, in the database of its
/// Cluster. Without a grant of its own, it may connect only while each role may.
const METRICS_EXPORTER: &str = "cnpg_metrics_exporter";

/// Lets these roles connect to the database, and the operator's role if it exists. Takes the right
/// from `PUBLIC`; a grant to another role stays. Only the database's owner can do this: for another
/// user, a warning is logged.
///
/// The roles must exist.
pub(super) async fn limit(
    connection: &mut PgConnection,
    database: &str,
    roles: &[String],
) -> Result<()> {
    let existing = "SELECT rolname::text FROM pg_roles
                    WHERE rolname::text = ANY($1) OR rolname::text = $2 ORDER BY rolname";
    let roles: Vec<String> = sqlx::query_scalar(existing)
        .bind(roles)
        .bind(METRICS_EXPORTER)
        .fetch_all(&mut *connection)
        .await?;
    // A statement without an effect would still write the row of the database, and fail if another
    // program writes it at the same time.
    let state = "
        SELECT pg_has_role(datdba, 'USAGE'),
               has_database_privilege('public'::name, datname::text, 'CONNECT, TEMPORARY')
                   OR EXISTS (
                       SELECT FROM unnest($1::text[]) AS role
                       WHERE NOT has_database_privilege(role::name, datname::text, 'CONNECT'))
        FROM pg_database WHERE datname = current_database()";
    let (is_owner, must_change): (bool, bool) =
        sqlx::query_as(state).bind(&roles).fetch_one(&mut *connection).await?;
    if !must_change {
        return Ok(());
    }
    let limit = format!(
        "DO $$ BEGIN
             EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
             EXECUTE format('GRANT CONNECT ON DATABASE %I TO {}', current_database());
         END $$",
        roles.join(", ")
    );
    if is_owner {
        sqlx::raw_sql(AssertSqlSafe(limit)).execute(connection).await?;
    } else {
        tracing::warn!(
            "which roles may connect to the {database} database was not changed: the user of the \
             URL does not own it. Run in this database, as its owner: {limit}"
        );
    }
    Ok(())
}
