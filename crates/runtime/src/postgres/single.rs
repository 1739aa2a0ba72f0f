//! A connection outside a pool, for a long read or a command.

use std::{fmt::Write as _, io, time::Duration};

use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection, postgres::PgConnectOptions};

use super::session::{KEEPALIVES, Setting};

/// Time limit for a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// A client that hangs, or vanishes behind a proxy, must not keep its snapshot for ever. `passbook
/// verify` reads one database while the snapshot of the other is idle: a table of a billion rows
/// takes about an hour.
const IDLE_IN_TRANSACTION: Setting = ("idle_in_transaction_session_timeout", "6h");

/// Connects. The server ends the session about 25 s after its client has vanished, in a transaction
/// too: a snapshot keeps dead rows from being removed.
///
/// The settings are sent by statements, because a pooler may reject them at connect.
///
/// # Errors
/// The database's error, or no answer in time.
pub async fn connect(options: &PgConnectOptions) -> sqlx::Result<PgConnection> {
    // Reading a whole table is slow and no reason for sqlx's warning about slow statements.
    let options = options.clone().disable_statement_logging();
    let connect = async {
        let mut connection = options.connect().await?;
        sqlx::raw_sql(AssertSqlSafe(settings())).execute(&mut connection).await?;
        Ok::<_, sqlx::Error>(connection)
    };
    tokio::time::timeout(CONNECT_LIMIT, connect).await.unwrap_or_else(|_| {
        let text = format!("no answer within {} s", CONNECT_LIMIT.as_secs());
        Err(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, text)))
    })
}

fn settings() -> String {
    KEEPALIVES.into_iter().chain([IDLE_IN_TRANSACTION]).fold(String::new(), |mut sql, setting| {
        let (name, value) = setting;
        let _ = write!(sql, "SET {name} = '{value}';");
        sql
    })
}
