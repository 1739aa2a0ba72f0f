//! Times in the future: a clock was ahead.

use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection};

use crate::{
    check::{Check, Finding},
    rows,
    sources::{Connections, Schema},
};

/// A row may be this much in the future: clocks of two machines differ a little.
const CLOCK_TOLERANCE_SECONDS: i64 = 60;

/// A table that no other check reads.
#[derive(Debug, Clone, Copy)]
pub struct DatedTable {
    /// The name of a row in findings, before its id.
    pub row: &'static str,
    pub table: &'static str,
    /// The columns with the id and the time.
    pub id: &'static str,
    pub time: &'static str,
}

/// Tables of the account-service's database. The report reader may not read them.
const TABLES: [DatedTable; 4] = [
    DatedTable { row: "API key", table: "api_keys", id: "id", time: "created_at" },
    DatedTable { row: "audit entry", table: "audit_log", id: "id", time: "created_at" },
    DatedTable {
        row: "webhook endpoint",
        table: "webhook_endpoints",
        id: "id",
        time: "created_at",
    },
    DatedTable {
        row: "a delivery to endpoint",
        table: "webhook_deliveries",
        id: "endpoint_id",
        time: "last_attempt_at",
    },
];

/// A finding for a row made later than now. The age is in seconds.
pub(crate) fn in_the_future(age: i64, subject: impl FnOnce() -> String) -> Option<Finding> {
    (age < -CLOCK_TOLERANCE_SECONDS).then(|| {
        let ahead = Duration::from_secs(age.unsigned_abs());
        let ahead = humantime::format_duration(ahead);
        let detail = format!("has a time {ahead} in the future: a clock was ahead");
        Finding::new(subject(), detail)
    })
}

/// Checks the tables of the account-service's database that no other check reads.
pub(crate) async fn compare(
    connections: &mut Connections,
    schema: Schema,
    check: &mut Check,
) -> sqlx::Result<()> {
    match schema {
        Schema::Tables => check_tables(&mut connections.accounts, &TABLES, check).await,
        Schema::Reporting => Ok(()),
    }
}

/// Checks the times of these tables.
///
/// # Errors
/// The database's error.
pub async fn check_tables(
    database: &mut PgConnection,
    tables: &[DatedTable],
    check: &mut Check,
) -> sqlx::Result<()> {
    for DatedTable { row, table, id, time } in tables {
        let query = format!(
            "SELECT {id}::text, extract(epoch FROM now() - {time})::bigint FROM {table}
             WHERE {time} IS NOT NULL"
        );
        let mut ages =
            sqlx::query_as::<_, (String, i64)>(AssertSqlSafe(query)).fetch(&mut *database);
        while let Some((id, age)) = rows::next(&mut ages).await? {
            check.count(in_the_future(age, || format!("{row} {id}")));
        }
    }
    Ok(())
}
