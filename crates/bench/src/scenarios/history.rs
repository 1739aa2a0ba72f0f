//! The throughput with a long history, compared with empty tables.

use std::time::{Duration, Instant};

use anyhow::Result;
use futures::try_join;
use load::{Pace, WaitFor};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use uuid::Uuid;

use super::deposits::{ACCOUNTS, deposits, warm_up};
use crate::{
    bench::Bench,
    section::{Bound, Goal, Section},
    stack::{Settings, Stack},
};

const ABOUT: &str = "Single deposits to 10,000 accounts in a closed loop of 256 clients: on empty \
tables, and with settled deposits of the same accounts in both databases (5,000,000; 200,000 in a \
quick run), spread evenly over the accounts. At the end, `passbook verify` checks all of them.";

const EMPTY: &str = "empty tables, settled a second";
const FULL: &str = "with history, settled a second";

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

pub(super) async fn run(bench: &Bench) -> Result<Section> {
    let mut section = Section::new("history", "History", ABOUT, bench.quick);
    measure(bench, EMPTY, None, &mut section).await?;
    measure(bench, FULL, Some(bench.size(5_000_000, 200_000)), &mut section).await?;
    let rows = [EMPTY, FULL].map(|name| {
        vec![name.to_owned(), section.cell(name), format!("{:.2} ×", section.ratio(name, EMPTY))]
    });
    section.table(&["", "settled a second", "relative to empty"], rows.to_vec());
    let ratio = section.ratio(FULL, EMPTY);
    let records = bench.size("5,000,000", "200,000");
    let name = format!("with {records} settled records, relative to empty tables");
    section.goals.push(Goal::new(&name, Bound::AtLeast(0.9), "×", ratio));
    Ok(section)
}

async fn measure(
    bench: &Bench,
    name: &str,
    history: Option<usize>,
    section: &mut Section,
) -> Result<()> {
    let stack = Stack::start(bench, Settings::default()).await?;
    section.machine = stack.machine.clone();
    let accounts = load::open_accounts(&stack.target, ACCOUNTS, false).await?;
    if let Some(rows) = history {
        let begun = Instant::now();
        write_history(&stack, &accounts, rows).await?;
        section.note("the history took, s", begun.elapsed().as_secs_f64());
    }
    warm_up(bench, &stack, &accounts).await?;
    let duration = Duration::from_secs(bench.size(6, 3));
    let plan = deposits(Pace::Closed { clients: 256 }, duration, WaitFor::Accepted);
    for _ in 0..bench.repetitions() {
        section.note(name, stack.load(&accounts, plan).await?.settled_per_second);
    }
    stack.finish().await
}

/// Writes the history into both databases in parallel.
async fn write_history(stack: &Stack, accounts: &[String], rows: usize) -> Result<()> {
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
