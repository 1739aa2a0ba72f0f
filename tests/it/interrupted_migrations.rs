//! `passbook migrate`, killed at any point, then run again.

use std::{process::Stdio, time::Duration};

use runtime::postgres::PgPool;
use sqlx::AssertSqlSafe;
use tests::{Stack, eventually, process};
use tokio::process::{Child, Command};

const SOON: Duration = Duration::from_secs(30);

/// An index with the migration that creates it. The migration before drops an invalid one.
#[derive(Clone, Copy)]
struct Index {
    variable: &'static str,
    table: &'static str,
    name: &'static str,
    migration: i64,
}

const OF_OWNERS: Index = Index {
    variable: "PASSBOOK_ACCOUNT_DATABASE_URL",
    table: "accounts",
    name: "accounts_owner_id_account_id_idx",
    migration: 20_261_129_190_004,
};

const OF_TIMES: Index = Index {
    variable: "PASSBOOK_TRANSACTION_DATABASE_URL",
    table: "transactions",
    name: "transactions_created_at_idx",
    migration: 20_260_501_000_003,
};

async fn execute(database: &PgPool, statement: String) {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(database).await.unwrap();
}

fn start_migrate(variable: &str, url: &str) -> Child {
    let mut command = Command::new(process::passbook());
    command.arg("migrate").env(variable, url).stdout(Stdio::null()).stderr(Stdio::null());
    command.kill_on_drop(true).spawn().unwrap()
}

/// The process of the server whose statement waits for a lock.
async fn waiting_backend(database: &PgPool, statement: &str) -> i32 {
    let waiting = "SELECT pid FROM pg_stat_activity
                   WHERE wait_event_type = 'Lock' AND strpos(query, $1) > 0 LIMIT 1";
    eventually("the migration waits for a lock", SOON, || async {
        sqlx::query_scalar(waiting).bind(statement).fetch_optional(database).await.unwrap()
    })
    .await
}

async fn backend_ended(database: &PgPool, backend: i32) {
    let ended = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)";
    eventually("the server has ended the session", SOON, || async {
        let ended: bool =
            sqlx::query_scalar(ended).bind(backend).fetch_one(database).await.unwrap();
        ended.then_some(())
    })
    .await;
}

impl Index {
    /// Whether the index exists, is valid, and whether its migration is recorded.
    async fn state(self, database: &PgPool) -> (Option<bool>, bool) {
        let state = "SELECT (SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1)),
                            EXISTS (SELECT FROM _sqlx_migrations WHERE version = $2)";
        let state = sqlx::query_as(state).bind(self.name).bind(self.migration);
        state.fetch_one(database).await.unwrap()
    }

    /// Runs the migration until its backend waits for a transaction, and kills the program then.
    /// `finishes` says whether the backend creates the index all the same.
    async fn interrupted(self, database: &PgPool, url: &str, finishes: bool) {
        let Self { table, name, migration, .. } = self;
        execute(database, format!("DROP INDEX {name}")).await;
        execute(database, format!("DELETE FROM _sqlx_migrations WHERE version = {migration}"))
            .await;
        let mut holder = database.begin().await.unwrap();
        let lock = AssertSqlSafe(format!("LOCK TABLE {table} IN ROW EXCLUSIVE MODE"));
        sqlx::raw_sql(lock).execute(&mut *holder).await.unwrap();
        let mut migrate = start_migrate(self.variable, url);
        let backend = waiting_backend(database, &format!("CREATE INDEX CONCURRENTLY {name}")).await;
        migrate.kill().await.unwrap();
        if !finishes {
            execute(database, format!("SELECT pg_terminate_backend({backend})")).await;
            backend_ended(database, backend).await;
        }
        holder.rollback().await.unwrap();
        backend_ended(database, backend).await;
        assert_eq!(self.state(database).await, (Some(finishes), false), "{name}");
    }
}

/// Interrupts the creation of an index in each database, and migrates again.
async fn migrates_after_an_interruption(name: &str, finishes: bool) {
    let stack = Stack::start_servers(name).await;
    let urls = stack.file().databases;
    for (index, url, database) in [
        (OF_OWNERS, &urls.account, stack.accounts().await),
        (OF_TIMES, &urls.transaction, stack.ledger().await),
    ] {
        index.interrupted(&database, url, finishes).await;
        let again = process::run_with(&["migrate"], &[(index.variable, url)]).await;
        assert!(again.status.success(), "{again:?}");
        assert_eq!(index.state(&database).await, (Some(true), true), "{}", index.name);
    }
}

#[tokio::test]
async fn an_invalid_index_of_an_interrupted_run_is_created_again() {
    migrates_after_an_interruption("invalid-index", false).await;
}

#[tokio::test]
async fn an_index_that_the_server_completed_after_an_interrupted_run_is_created_again() {
    migrates_after_an_interruption("unrecorded-index", true).await;
}

/// Tables of the account database that only the webhook-service writes, or no service.
const UNWRITTEN: [&str; 6] = [
    "event_id_key",
    "webhook_fanout",
    "webhook_endpoints",
    "webhook_secrets",
    "webhook_deliveries",
    "webhook_late_announcements",
];

/// The tables of which a role may insert or update a whole row.
async fn wholly_writable(database: &PgPool, role: &str) -> Vec<String> {
    let tables = "SELECT relname::text FROM pg_class
                  WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
                      AND has_table_privilege($1, oid, 'INSERT, UPDATE')
                  ORDER BY relname";
    sqlx::query_scalar(tables).bind(role).fetch_all(database).await.unwrap()
}

#[tokio::test]
async fn a_run_that_ends_early_lets_no_service_write_tables_of_others() {
    let stack = Stack::start_servers("interrupted-grants").await;
    let (url, accounts) = (stack.file().databases.account, stack.accounts().await);
    let settings = [("PASSBOOK_ACCOUNT_DATABASE_URL", url.as_str())];
    let writable = || async { wholly_writable(&accounts, "account_service").await };
    assert_eq!(writable().await, Vec::<String>::new(), "after all migrations");
    // The last migration fails: its view is there already. First beside the tables, then all
    // tables of webhooks are new, as in an upgrade.
    let undo = [
        "DELETE FROM _sqlx_migrations WHERE version = 20261130010001",
        "DROP TABLE webhook_fanout, webhook_endpoints, webhook_secrets, webhook_deliveries,
             webhook_late_announcements;
         DROP FUNCTION webhook_fence();
         ALTER TABLE transaction_records DROP COLUMN api_key_id;
         DELETE FROM _sqlx_migrations WHERE version >= 20261129235001",
    ];
    for undo in undo {
        execute(&accounts, undo.to_owned()).await;
        let failed = process::run_with(&["migrate"], &settings).await;
        let message = String::from_utf8_lossy(&failed.stderr);
        assert!(message.contains("\"record_labels\" already exists"), "{message}");
        let writable = writable().await;
        let wrong: Vec<_> =
            UNWRITTEN.iter().filter(|name| writable.iter().any(|w| w == *name)).collect();
        assert!(wrong.is_empty(), "{undo}: account_service may write {wrong:?}");
    }
    execute(&accounts, "DROP VIEW reporting.record_labels".to_owned()).await;
    let completed = process::run_with(&["migrate"], &settings).await;
    assert!(completed.status.success(), "{completed:?}");
    assert_eq!(writable().await, Vec::<String>::new(), "after all migrations");
    for (role, database) in [
        ("webhook_service", &accounts),
        ("transaction_service", &stack.ledger().await),
        ("report_service", &stack.reports().await),
    ] {
        assert_eq!(wholly_writable(database, role).await, Vec::<String>::new(), "{role}");
    }
}
