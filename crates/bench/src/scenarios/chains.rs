//! What the hash chains of the ledger cost.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use contract::{AccountId, Amount, Command, Currency, Kind, RecordId};
use runtime::postgres::PgPool;
use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use time::OffsetDateTime;
use transaction_service::store::Ledger;

use super::deposits::ACCOUNTS;
use crate::{
    bench::Bench,
    runs::number,
    section::Section,
    stack::{Settings, Stack},
};

const ABOUT: &str = "The ledger's statement for a batch of 500 deposits to 500 of 10,000 accounts, \
in two copies of its tables in turn, over one connection without fsync, while nothing else runs. In \
one copy the function that hashes a link returns NULL, so no hash is computed or stored. Each figure \
is the time, or the write-ahead log, divided by the number of deposits.";

/// Copies of the ledger's tables, in the schema `@`. Its statement finds them by the search path.
const COPIES: &str = "
    CREATE SCHEMA @;
    CREATE TABLE @.accounts (LIKE public.accounts INCLUDING ALL);
    CREATE TABLE @.transactions (LIKE public.transactions INCLUDING ALL);";
/// Without hashes.
const NO_HASH: &str = "
    ALTER TABLE plain.accounts ALTER COLUMN chain_hash DROP NOT NULL;
    CREATE FUNCTION plain.chain_hash(
        bytea, uuid, bigint, bigint, numeric, timestamptz, bytea
    ) RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE RETURN NULL::bytea;";
/// As the transaction-service has it, but without waiting for the disk.
const SESSION: [(&str, &str); 6] = [
    ("synchronous_commit", "off"),
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("enable_seqscan", "off"),
    ("jit", "off"),
];

const BATCH: usize = 500;
const PLAIN: &str = "plain";
const CASES: [(&str, &str); 2] = [(PLAIN, "without chains"), ("chained", "with chains")];
const TIME: &str = "µs a deposit";
const WAL: &str = "bytes of write-ahead log a deposit";

fn figure(schema: &str, name: &str) -> String {
    format!("{schema}: {name}")
}

pub(super) async fn run(bench: &Bench) -> Result<Section> {
    let stack = Stack::start(bench, Settings::default()).await?;
    let mut section = Section::new("chains", "Hash chains", ABOUT, bench.quick);
    section.measured_on(&stack.machine);
    let mut database = PgConnection::connect(&stack.file.databases.transaction).await?;
    let accounts: Vec<_> = (0..ACCOUNTS).map(|_| AccountId::new()).collect();
    let mut ledgers = Vec::new();
    for (schema, _) in CASES {
        sqlx::raw_sql(AssertSqlSafe(COPIES.replace('@', schema))).execute(&mut database).await?;
        ledgers.push((schema, ledger(&stack.file.databases.transaction, schema)?));
    }
    sqlx::raw_sql(NO_HASH).execute(&mut database).await?;
    // The first round opens the accounts.
    for (_, ledger) in &ledgers {
        deposit(ledger, &accounts).await?;
    }
    for _ in 0..bench.repetitions() {
        for (schema, ledger) in &ledgers {
            sqlx::raw_sql("CHECKPOINT").execute(&mut database).await?;
            let (before, begun) = (written(&mut database).await?, Instant::now());
            let mut deposits = 0;
            while begun.elapsed() < Duration::from_secs(bench.size(5, 2)) {
                deposits += deposit(ledger, &accounts).await?;
            }
            let (micros, count) = (begun.elapsed().as_secs_f64() * 1e6, number(deposits));
            section.note(figure(schema, TIME), micros / count);
            let bytes = written(&mut database).await? - before;
            section.note(figure(schema, WAL), number(u64::try_from(bytes)?) / count);
        }
    }
    let drop = "DROP SCHEMA plain CASCADE; DROP SCHEMA chained CASCADE";
    sqlx::raw_sql(drop).execute(&mut database).await?;
    stack.finish().await?;
    Ok(section)
}

pub(super) fn present(section: &mut Section) {
    let row = |(schema, name): (&str, &str)| {
        let figures = [TIME, WAL].map(|name| figure(schema, name));
        let [time, wal] = figures.each_ref().map(|figure| section.cell(figure));
        let plain = figure(PLAIN, TIME);
        let ratio = format!("{:.2} ×", section.ratio(&figure(schema, TIME), &plain));
        vec![name.to_owned(), time, ratio, wal]
    };
    let rows = CASES.map(row).to_vec();
    section.table(&["", TIME, "relative to none", WAL], rows);
}

/// The ledger in a copy of the tables.
fn ledger(url: &str, schema: &str) -> Result<Ledger> {
    let path = format!("{schema}, public");
    let to = url.parse::<PgConnectOptions>()?.options([("search_path", path.as_str())]);
    let pool = PgPoolOptions::new().max_connections(1);
    let limit = Duration::from_secs(60);
    Ok(Ledger::new(PgPool::connect_lazy(pool, to.options(SESSION), limit)))
}

/// Applies a deposit to each account. Returns their number.
async fn deposit(ledger: &Ledger, accounts: &[AccountId]) -> Result<u64> {
    let mut deposits = 0;
    let currency = Currency::parse("KRW")?;
    let amount = Amount::parse("100", currency)?;
    for batch in accounts.chunks(BATCH) {
        let command = |&account_id: &AccountId| -> Result<Command> {
            Ok(Command {
                record_id: RecordId::new(),
                account_id,
                user_id: "bench".to_owned().try_into()?,
                kind: Kind::Deposit,
                amount,
                currency,
                requested_at: OffsetDateTime::now_utc(),
            })
        };
        let commands = batch.iter().map(command).collect::<Result<Vec<_>>>()?;
        let applied = ledger.apply(&commands).await.map_err(|failure| anyhow!("{failure}"))?;
        ensure!(applied.iter().all(Option::is_some), "the ledger has not applied a batch");
        deposits += u64::try_from(batch.len())?;
    }
    Ok(deposits)
}

/// Bytes of the write-ahead log so far.
async fn written(database: &mut PgConnection) -> Result<i64> {
    let sql = "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint";
    sqlx::query_scalar(sql).fetch_one(database).await.context("reading the log's position")
}
