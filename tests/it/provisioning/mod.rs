//! The steps of a deployment before the services start, each with the least
//! privilege: `passbook provision`, `migrate`, `streams`, `wait` and `secrets`. Also
//! the permissions of the auditor.

mod auditor;
mod wait;

use std::process::Output;

use serde_json::Value;
use sqlx::{Connection, PgConnection};
use tests::{
    Stack,
    process::{run, run_with},
};

/// A database's URL with another role.
fn as_role(url: &str, role: &str, password: &str) -> String {
    let (_, address) = url.split_once('@').unwrap();
    format!("postgres://{role}:{password}@{address}")
}

/// stdout and stderr.
fn text(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat()
}

/// Runs `passbook`, which must succeed.
async fn succeeds(arguments: &[&str], settings: &[(&str, &str)]) -> Output {
    let output = run_with(arguments, settings).await;
    assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    output
}

/// Runs `passbook`, which must fail with exit code 2. Gives stdout and stderr.
async fn fails(arguments: &[&str], settings: &[(&str, &str)]) -> String {
    let output = run_with(arguments, settings).await;
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output));
    text(&output)
}

/// The error of a connection or statement.
async fn error_of(url: &str, statement: &'static str) -> String {
    let mut connection = match PgConnection::connect(url).await {
        Ok(connection) => connection,
        Err(error) => return error.to_string(),
    };
    let outcome = sqlx::raw_sql(statement).execute(&mut connection).await;
    outcome.err().map_or_else(|| format!("{statement} was allowed"), |error| error.to_string())
}

/// Checks that `passbook migrate -o json` has listed no migration.
fn assert_nothing_applied(output: &Output) {
    let applied: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(applied, Value::Array(Vec::new()), "{output:?}");
}

const PASSWORDS: [(&str, &str); 10] = [
    ("PASSBOOK_ACCOUNT_OWNER_PASSWORD", "first"),
    ("PASSBOOK_ACCOUNT_SERVICE_PASSWORD", "it's \"second\" \\"),
    ("PASSBOOK_TRANSACTION_OWNER_PASSWORD", "third"),
    ("PASSBOOK_TRANSACTION_SERVICE_PASSWORD", "fourth"),
    ("PASSBOOK_REPORT_OWNER_PASSWORD", "fifth"),
    ("PASSBOOK_REPORT_SERVICE_PASSWORD", "sixth"),
    ("PASSBOOK_AUDITOR_PASSWORD", "seventh"),
    ("PASSBOOK_REPORT_READER_PASSWORD", "eighth"),
    ("PASSBOOK_WEBHOOK_SERVICE_PASSWORD", "ninth"),
    ("PASSBOOK_LEDGER_READER_PASSWORD", "tenth"),
];

#[tokio::test]
async fn a_bare_server_is_provisioned_with_least_privilege_roles() {
    let stack = Stack::start_servers("provision").await;
    let urls = stack.file().databases;
    let server = urls.account.replace("/account?", "/postgres?");
    let mut admin = PgConnection::connect(&server).await.unwrap();
    for database in ["account", "transaction", "report"] {
        let drop = sqlx::AssertSqlSafe(format!("DROP DATABASE {database}"));
        sqlx::raw_sql(drop).execute(&mut admin).await.unwrap();
    }
    let settings = [&[("PASSBOOK_POSTGRES_URL", server.as_str())], &PASSWORDS[..]].concat();
    let log = "ALTER SYSTEM SET log_statement = 'all'";
    sqlx::raw_sql(log).execute(&mut admin).await.unwrap();
    sqlx::raw_sql("SELECT pg_reload_conf()").execute(&mut admin).await.unwrap();
    // An empty setting is not a password.
    let empty = [&settings[..], &[("PASSBOOK_AUDITOR_PASSWORD", "")]].concat();
    let error = fails(&["provision"], &empty).await;
    assert!(error.contains("value is required"), "{error}");
    // Two runs at the same time, then a third.
    let both = [succeeds(&["provision"], &settings), succeeds(&["provision"], &settings)];
    futures::future::join_all(both).await;
    succeeds(&["provision"], &settings).await;

    // The next steps use the owners of the databases, no superuser.
    let account = as_role(&urls.account, "account_owner", "first");
    let transaction = as_role(&urls.transaction, "transaction_owner", "third");
    let report = as_role(&urls.report, "report_owner", "fifth");
    let owners = [
        ("PASSBOOK_ACCOUNT_DATABASE_URL", account.as_str()),
        ("PASSBOOK_TRANSACTION_DATABASE_URL", transaction.as_str()),
        ("PASSBOOK_REPORT_DATABASE_URL", report.as_str()),
    ];
    let error = fails(&["wait"], &owners[..1]).await;
    assert!(error.contains("passbook migrate"), "{error}");
    // Another job makes the roles, after the migration has begun.
    let rename = "ALTER ROLE auditor RENAME TO later";
    sqlx::raw_sql(rename).execute(&mut admin).await.unwrap();
    let with_wait = [&owners[..1], &[("PASSBOOK_WAIT", "5s")]].concat();
    let error = fails(&["migrate"], &with_wait).await;
    assert!(error.contains("role auditor"), "{error}");
    let rename = "ALTER ROLE later RENAME TO auditor";
    sqlx::raw_sql(rename).execute(&mut admin).await.unwrap();
    succeeds(&["migrate"], &owners).await;
    // As another administrator leaves a database: each role may connect.
    let open = "GRANT ALL ON DATABASE account TO PUBLIC;
                REVOKE CONNECT ON DATABASE account FROM account_service;
                CREATE ROLE cnpg_metrics_exporter LOGIN PASSWORD 'eleventh'";
    sqlx::raw_sql(open).execute(&mut admin).await.unwrap();
    assert_nothing_applied(&succeeds(&["migrate", "-o", "json"], &owners).await);
    let mut owner = PgConnection::connect(&account).await.unwrap();
    // The database after a newer release was rolled back.
    let newer =
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                 VALUES (20990101000001, 'expand something', true, '\\x00', 0)";
    sqlx::raw_sql(newer).execute(&mut owner).await.unwrap();
    let again = succeeds(&["migrate", "-o", "json"], &owners).await;
    assert_nothing_applied(&again);
    assert!(text(&again).contains("newer"), "{again:?}");

    // A service may use a table as soon as a migration has added it, without another grant.
    let added = "CREATE TABLE added (id bigint GENERATED ALWAYS AS IDENTITY, text text)";
    sqlx::raw_sql(added).execute(&mut owner).await.unwrap();

    let service = as_role(&urls.account, "account_service", "it%27s%20%22second%22%20%5C");
    let foreign = as_role(&urls.account, "transaction_service", "fourth");
    let ledger = as_role(&urls.transaction, "transaction_service", "fourth");
    let auditor = as_role(&urls.account, "auditor", "seventh");
    let reader = as_role(&urls.account, "report_reader", "eighth");
    let ledger_views = as_role(&urls.transaction, "report_reader", "eighth");
    let report_reader = as_role(&urls.report, "report_reader", "eighth");
    let ledger_reader = as_role(&urls.transaction, "ledger_reader", "tenth");
    let reader_elsewhere = as_role(&urls.account, "ledger_reader", "tenth");
    let exporter = as_role(&urls.account, "cnpg_metrics_exporter", "eleventh");
    let [as_service, as_auditor, as_reader] = [&service, &auditor, &reader].map(|url| url.as_str());
    succeeds(&["wait"], &[("PASSBOOK_ACCOUNT_DATABASE_URL", as_service)]).await;
    succeeds(&["wait"], &[("PASSBOOK_TRANSACTION_DATABASE_URL", ledger.as_str())]).await;
    succeeds(&["wait"], &[("PASSBOOK_ACCOUNT_DATABASE_URL", as_auditor)]).await;
    let mut services = PgConnection::connect(as_service).await.unwrap();
    let write = "INSERT INTO added (text) VALUES ('one'); UPDATE added SET text = 'two'";
    sqlx::raw_sql(write).execute(&mut services).await.unwrap();
    let mut reader = PgConnection::connect(as_auditor).await.unwrap();
    let read: String =
        sqlx::query_scalar("SELECT text FROM added").fetch_one(&mut reader).await.unwrap();
    assert_eq!(read, "two");
    // The views of reports, and nothing else. A later view is readable at once.
    let view = "CREATE VIEW reporting.added AS SELECT id FROM public.added";
    sqlx::raw_sql(view).execute(&mut owner).await.unwrap();
    for (url, view) in [
        (as_reader, "SELECT * FROM reporting.added, reporting.accounts"),
        (as_reader, "SELECT * FROM reporting.transaction_records"),
        (ledger_views.as_str(), "SELECT * FROM reporting.accounts, reporting.transactions"),
        (ledger_views.as_str(), "SELECT * FROM reporting.writers"),
        (ledger_reader.as_str(), "SELECT balance, account_seq FROM reporting.accounts"),
        (ledger_reader.as_str(), "SELECT reason, balance_after FROM reporting.transactions"),
        (ledger_reader.as_str(), "SELECT * FROM reporting.writers"),
        (as_auditor, "SELECT * FROM reporting.added, reporting.accounts"),
        (exporter.as_str(), "SELECT * FROM pg_stat_database"),
    ] {
        let mut connection = PgConnection::connect(url).await.unwrap();
        sqlx::raw_sql(view).execute(&mut connection).await.unwrap();
    }
    for url in [as_reader, &ledger_reader] {
        let error = error_of(url, "CREATE TEMPORARY TABLE more (id int)").await;
        assert!(error.contains("read-only"), "{error}");
    }
    for (url, statement) in [
        (as_service, "DELETE FROM added"),
        (as_auditor, "UPDATE added SET text = 'three'"),
        (as_service, "DELETE FROM transaction_records"),
        (as_service, "TRUNCATE accounts"),
        (as_service, "ALTER TABLE accounts ADD COLUMN more text"),
        (as_service, "CREATE TABLE more (id int)"),
        (as_service, "UPDATE _sqlx_migrations SET success = false"),
        (foreign.as_str(), "SELECT 1"),
        (exporter.as_str(), "SELECT * FROM accounts"),
        (as_service, "CREATE TEMPORARY TABLE more (id int)"),
        (ledger.as_str(), "UPDATE transactions SET amount = 1"),
        (ledger.as_str(), "DELETE FROM transactions"),
        (as_auditor, "UPDATE accounts SET balance = 1"),
        (as_auditor, "INSERT INTO accounts SELECT * FROM accounts"),
        (as_auditor, "CREATE TABLE more (id int)"),
        (as_reader, "SELECT * FROM public.accounts"),
        (as_reader, "SELECT * FROM transaction_records"),
        (ledger_views.as_str(), "SELECT * FROM public.transactions"),
        (ledger_reader.as_str(), "SELECT record_id FROM public.transactions"),
        (ledger_reader.as_str(), "SELECT chain_hash FROM reporting.transactions"),
        (ledger_reader.as_str(), "SELECT * FROM reporting.accounts"),
        (reader_elsewhere.as_str(), "SELECT 1"),
        (report_reader.as_str(), "SELECT 1"),
        (as_service, "SELECT * FROM reporting.accounts"),
    ] {
        let error = error_of(url, statement).await;
        let denied = error.contains("permission denied") || error.contains("must be owner");
        assert!(denied, "{statement}: {error}");
    }

    let log = std::fs::read_to_string(stack.dir.join("logs/postgres.log")).unwrap();
    assert!(log.contains("ROLE auditor") && !log.contains("seventh"), "{log}");

    // Rotation: one role gets a new password, and the old password is invalid.
    let settings = settings.iter().map(|&(name, value)| match name {
        "PASSBOOK_AUDITOR_PASSWORD" => (name, "ninth"),
        _ => (name, value),
    });
    succeeds(&["provision"], &settings.collect::<Vec<_>>()).await;
    assert!(error_of(as_auditor, "SELECT 1").await.contains("authentication failed"));
    let rotated = as_role(&urls.account, "auditor", "ninth");
    succeeds(&["wait"], &[("PASSBOOK_ACCOUNT_DATABASE_URL", rotated.as_str())]).await;
}

/// `CREATE INDEX CONCURRENTLY` of the one run waits for every snapshot of the other one.
#[tokio::test]
async fn migrations_that_run_at_the_same_time_do_not_wait_for_each_other() {
    let stack = Stack::start_servers("migrate-twice").await;
    let (url, ledger) = (stack.file().databases.transaction, stack.ledger().await);
    let settings = [("PASSBOOK_TRANSACTION_DATABASE_URL", url.as_str())];
    for _ in 0..3 {
        let undo = "DROP INDEX transactions_created_at_idx;
                    DELETE FROM _sqlx_migrations WHERE version BETWEEN 20260501000002 AND 20260501000003";
        sqlx::raw_sql(undo).execute(&ledger).await.unwrap();
        let runs = (0..3).map(|_| succeeds(&["migrate"], &settings));
        futures::future::join_all(runs).await;
        let valid = "SELECT indisvalid FROM pg_index
                     WHERE indexrelid = 'transactions_created_at_idx'::regclass";
        assert!(sqlx::query_scalar::<_, bool>(valid).fetch_one(&ledger).await.unwrap());
    }
}

#[tokio::test]
async fn a_role_with_createrole_and_createdb_can_provision_a_server() {
    let stack = Stack::start_servers("provision-as-a-role").await;
    let urls = stack.file().databases;
    let server = urls.account.replace("/account?", "/postgres?");
    let mut admin = PgConnection::connect(&server).await.unwrap();
    for database in ["account", "transaction", "report"] {
        for statement in [
            format!("DROP DATABASE {database}"),
            format!("DROP ROLE IF EXISTS {database}_service, {database}_owner"),
        ] {
            sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut admin).await.unwrap();
        }
    }
    let builder = "DROP ROLE auditor, report_reader, ledger_reader; CREATE ROLE builder LOGIN CREATEROLE CREATEDB PASSWORD 'one'";
    sqlx::raw_sql(builder).execute(&mut admin).await.unwrap();
    // The stack was provisioned by a superuser, so that not every role may connect.
    let connect = "GRANT CONNECT ON DATABASE postgres TO builder";
    sqlx::raw_sql(connect).execute(&mut admin).await.unwrap();
    let builder = as_role(&server, "builder", "one");
    let settings = [&[("PASSBOOK_POSTGRES_URL", builder.as_str())], &PASSWORDS[..]].concat();
    succeeds(&["provision"], &settings).await;
    succeeds(&["provision"], &settings).await;
    let owner = as_role(&urls.account, "account_owner", "first");
    succeeds(&["migrate"], &[("PASSBOOK_ACCOUNT_DATABASE_URL", owner.as_str())]).await;
    let service = as_role(&urls.account, "account_service", "it%27s%20%22second%22%20%5C");
    succeeds(&["wait"], &[("PASSBOOK_ACCOUNT_DATABASE_URL", service.as_str())]).await;
}

#[tokio::test]
async fn printed_secrets_are_complete_and_new_each_time() {
    let print = async || {
        let output = run(&["secrets", "print", "--namespace", "elsewhere", "--dev"]).await;
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let (first, second) = (print().await, print().await);
    let items = first["items"].as_array().unwrap();
    assert_eq!((&first["kind"], items.len()), (&"List".into(), 21));
    for (one, other) in items.iter().zip(second["items"].as_array().unwrap()) {
        assert_eq!(one["metadata"]["namespace"], "elsewhere");
        assert_eq!(one["metadata"], other["metadata"]);
        assert_ne!(one["stringData"], other["stringData"]);
    }
    let outside = run(&["secrets", "create"]).await;
    assert_eq!(outside.status.code(), Some(2), "{outside:?}");
    assert!(text(&outside).contains("cluster"), "{}", text(&outside));
}
