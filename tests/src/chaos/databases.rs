//! Disruptions of PostgreSQL by a superuser's session: held rows, read-only databases,
//! waiting commits.

use std::time::Duration;

use anyhow::Result;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::time::{sleep, timeout};

use super::runner::REQUEST_LIMIT;
use crate::Stack;

/// How long a change may take to be undone, while PostgreSQL may be down.
const UNDONE_WITHIN: Duration = Duration::from_secs(60);
const RESET_READ_ONLY: &str = "RESET default_transaction_read_only";
const RESET_STANDBY: &str = "RESET synchronous_standby_names";

/// Locks some of the newest accounts of this database until the connection is dropped.
pub(super) async fn hold_rows(stack: &Stack, database: &str, accounts: u8) -> Result<PgConnection> {
    let mut connection = PgConnection::connect(&url(stack, database)).await?;
    sqlx::query("BEGIN").execute(&mut connection).await?;
    sqlx::query("SELECT account_id FROM accounts ORDER BY account_id DESC LIMIT $1 FOR UPDATE")
        .bind(i32::from(accounts))
        .fetch_all(&mut connection)
        .await?;
    Ok(connection)
}

/// Takes all free connections, until they are dropped.
pub(super) async fn take_connections(stack: &Stack) -> Vec<PgConnection> {
    let url = url(stack, "report");
    let mut connections = Vec::new();
    while let Ok(Ok(connection)) = timeout(REQUEST_LIMIT, PgConnection::connect(&url)).await {
        connections.push(connection);
    }
    connections
}

/// Makes new sessions of these databases read-only, or no longer.
pub(super) async fn set_read_only(
    stack: &Stack,
    databases: &[&str],
    read_only: bool,
) -> Result<()> {
    let change = if read_only { "SET default_transaction_read_only = on" } else { RESET_READ_ONLY };
    let changes = databases.iter().map(|name| format!("ALTER DATABASE {name} {change}"));
    execute(stack, changes).await
}

/// Lets commits wait for a missing standby, or no longer.
pub(super) async fn set_absent_standby(stack: &Stack, absent: bool) -> Result<()> {
    let change = if absent { "SET synchronous_standby_names = 'absent'" } else { RESET_STANDBY };
    let changes = [format!("ALTER SYSTEM {change}"), "SELECT pg_reload_conf()".to_owned()];
    execute(stack, changes.into_iter()).await
}

/// Retries until the attempt succeeds: the server may be down, or out of connections.
pub(super) async fn undone<F>(mut attempt: impl FnMut() -> F) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    let retried = async {
        while attempt().await.is_err() {
            sleep(Duration::from_millis(200)).await;
        }
    };
    Ok(timeout(UNDONE_WITHIN, retried).await?)
}

async fn execute(stack: &Stack, statements: impl Iterator<Item = String>) -> Result<()> {
    let executed = async {
        // This database is never read-only.
        let mut superuser = PgConnection::connect(&url(stack, "postgres")).await?;
        // The statement itself must not wait for a standby.
        sqlx::query("SET synchronous_commit = local").execute(&mut superuser).await?;
        for statement in statements {
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut superuser).await?;
        }
        Ok(())
    };
    timeout(REQUEST_LIMIT, executed).await?
}

fn url(stack: &Stack, database: &str) -> String {
    stack.file().databases.account.replace("/account?", &format!("/{database}?"))
}
