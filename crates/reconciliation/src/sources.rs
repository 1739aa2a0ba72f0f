//! The two databases, and their snapshots.

use std::{io, time::Duration};

use sqlx::{ConnectOptions, PgConnection, postgres::PgConnectOptions};

use crate::Error;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The schema of the rows, which depends on the role of the connection. Names and
/// types of the columns are the same in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schema {
    /// The services' own tables, for the auditor.
    Tables,
    /// The views of the schema `reporting`, for the report reader.
    Reporting,
}

/// Where the records and the transactions are.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The account-service's database.
    pub accounts: PgConnectOptions,
    /// The transaction-service's database.
    pub ledger: PgConnectOptions,
    pub schema: Schema,
}

/// Connections for one comparison.
pub(crate) struct Connections {
    /// A snapshot, taken before that of the ledger.
    pub(crate) accounts: PgConnection,
    pub(crate) ledger: PgConnection,
    /// Outside the snapshot of the accounts, to look up rows missing from it.
    pub(crate) latest: PgConnection,
}

impl Sources {
    pub(crate) async fn connect(&self) -> Result<Connections, Error> {
        Ok(Connections {
            accounts: self.snapshot(&self.accounts).await.map_err(Error::Accounts)?,
            ledger: self.snapshot(&self.ledger).await.map_err(Error::Ledger)?,
            latest: self.open(&self.accounts).await.map_err(Error::Accounts)?,
        })
    }

    /// A connection with a snapshot of the database, taken now.
    async fn snapshot(&self, options: &PgConnectOptions) -> sqlx::Result<PgConnection> {
        let mut connection = self.open(options).await?;
        sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT 1")
            .execute(&mut connection)
            .await?;
        Ok(connection)
    }

    async fn open(&self, options: &PgConnectOptions) -> sqlx::Result<PgConnection> {
        // Reading a whole table is slow and no reason for sqlx's warning about slow statements.
        let mut options = options.clone().disable_statement_logging();
        if self.schema == Schema::Reporting {
            options = options.options([("search_path", "reporting")]);
        }
        let connection = tokio::time::timeout(CONNECT_TIMEOUT, options.connect()).await;
        connection.map_err(|_| {
            let text = format!("no answer within {} s", CONNECT_TIMEOUT.as_secs());
            sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, text))
        })?
    }
}
