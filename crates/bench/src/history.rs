//! A history of settled deposits, written directly into both databases.

use anyhow::Result;
use futures::try_join;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use uuid::Uuid;

use crate::stack::Stack;

/// Fills the account database. `$` stands for the number of rows, `@` for the
/// number of accounts. The ids are UUIDv7 of the last month, in the order of
/// time. Foreign key triggers are off, because every account exists.
const RECORDS: &str = "SET session_replication_role = replica;
    CREATE TEMP TABLE known AS SELECT row_number() OVER (ORDER BY account_id) - 1 AS place, account_id
    FROM accounts;
    CREATE UNIQUE INDEX ON known (place);
    ANALYZE known;
    INSERT INTO transaction_records
        (id, account_id, idempotency_key, request_hash, user_id, type, amount, currency, status,
         transaction_id, balance_after, created_at, updated_at)
    SELECT history.id, account_id, history.id::text, sha256(history.id::text::bytea), 'teller', 'DEPOSIT', 100,
           'KRW', 'SUCCESS', n + 1, (n / @ + 1) * 100, made, made
    FROM (HISTORY) AS history JOIN known ON place = n % @ ORDER BY n;
    UPDATE accounts SET balance = $ / @ * 100, account_seq = $ / @;";
/// Fills the transaction database, with the same placeholders.
const TRANSACTIONS: &str = "SET session_replication_role = replica;
    CREATE TEMP TABLE known AS SELECT row_number() OVER (ORDER BY account_id) - 1 AS place, account_id
    FROM accounts;
    CREATE UNIQUE INDEX ON known (place);
    ANALYZE known;
    INSERT INTO transactions
        (id, record_id, account_id, type, amount, currency, status, balance_after, account_seq,
         created_at)
    OVERRIDING SYSTEM VALUE
    SELECT n + 1, history.id, account_id, 'DEPOSIT', 100, 'KRW', 'SUCCESS', (n / @ + 1) * 100, n / @ + 1,
           made
    FROM (HISTORY) AS history JOIN known ON place = n % @ ORDER BY n;
    SELECT setval(pg_get_serial_sequence('transactions', 'id'), $);
    UPDATE accounts SET balance = $ / @ * 100, account_seq = $ / @;";
/// The creation time and the id of the n-th row.
const HISTORY: &str = "SELECT n, to_timestamp(ms / 1000.0) AS made,
        (lpad(to_hex(ms), 12, '0') || '7000' || '8' || lpad(to_hex(n), 15, '0'))::uuid AS id
    FROM (SELECT n, BEGUN + n * 2592000000 / $ AS ms FROM generate_series(0::bigint, $ - 1) AS n) AS time";

/// Writes `rows` settled deposits of the last month into both databases in
/// parallel, spread evenly over the accounts. The accounts must be new.
pub(crate) async fn write(stack: &Stack, accounts: &[String], rows: usize) -> Result<()> {
    let ids: Vec<Uuid> = accounts.iter().map(|id| id.parse()).collect::<Result<_, _>>()?;
    let mut ledger = PgConnection::connect(&stack.file.databases.transaction).await?;
    sqlx::query(
        "INSERT INTO accounts (account_id, currency) SELECT id, 'KRW' FROM unnest($1) AS id",
    )
    .bind(&ids)
    .execute(&mut ledger)
    .await?;
    let mut records = PgConnection::connect(&stack.file.databases.account).await?;
    let begun: i64 =
        sqlx::query_scalar("SELECT (extract(epoch FROM now())::bigint - 2678400) * 1000")
            .fetch_one(&mut ledger)
            .await?;
    let substitute = |sql: &str| {
        let sql = sql.replace("HISTORY", HISTORY).replace("BEGUN", &begun.to_string());
        sql.replace('$', &rows.to_string()).replace('@', &accounts.len().to_string())
    };
    try_join!(
        fill(&mut records, substitute(RECORDS), "VACUUM ANALYZE"),
        fill(&mut ledger, substitute(TRANSACTIONS), "VACUUM ANALYZE"),
    )?;
    // A later checkpoint would write these pages during the measurement.
    sqlx::raw_sql("CHECKPOINT").execute(&mut ledger).await?;
    Ok(())
}

async fn fill(database: &mut PgConnection, sql: String, then: &'static str) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *database).await?;
    sqlx::raw_sql(then).execute(database).await?;
    Ok(())
}
