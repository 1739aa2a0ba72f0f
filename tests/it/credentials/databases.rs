//! The services' roles in the databases.

use std::{
    collections::{HashMap, hash_map::Entry},
    time::Duration,
};

use devstack::Secrets;
use reqwest::Method;
use runtime::postgres::DatabaseConfig;
use serde_json::json;
use sqlx::{Connection, PgConnection, Row};
use tests::{Client, Stack, client::new_key};

/// The tables from which the webhook-service deletes rows.
const DELETED_WEBHOOKS: [&str; 4] =
    ["webhook_endpoints", "webhook_secrets", "webhook_deliveries", "webhook_late_announcements"];

/// The URL of a database with this role of the stack.
fn as_role(stack: &Stack, database: &str, role: &str) -> String {
    let secrets = Secrets::read(&stack.dir).unwrap();
    let url = stack.file().databases.account.replace("/account?", &format!("/{database}?"));
    let (_, address) = url.split_once('@').unwrap();
    format!("postgres://{role}:{}@{address}", secrets.postgres.of(role).unwrap())
}

#[tokio::test]
async fn a_services_database_credentials_are_good_for_its_needs_only() {
    let stack = Stack::shared().await;
    let client = Client::teller(stack);
    let account = client.open_account("KRW").await;
    let settled = client.deposit(&account, "100").await;
    let record = settled.text("recordId");
    let key = revoked_key(stack).await;
    let (account_service, transaction_service, report_service) = (
        ("account", "account_service"),
        ("transaction", "transaction_service"),
        ("report", "report_service"),
    );
    let webhook_service = ("account", "webhook_service");
    let new = new_key();
    let transaction = format!(
        "INSERT INTO transactions (record_id, account_id, type, amount, currency, status, reason, created_at)
         VALUES ('{new}', '{account}', 'DEPOSIT', 1, 'KRW', 'FAILED', 'INSUFFICIENT_FUNDS', "
    );
    let of_record = format!("WHERE id = '{record}'");
    let of_account = format!("WHERE account_id = '{account}'");
    let mut intruder = Intruder::new(stack);
    for ((database, role), statement) in [
        (account_service, format!("UPDATE accounts SET owner_id = 'mallory' {of_account}")),
        (account_service, format!("UPDATE accounts SET currency = 'EUR' {of_account}")),
        (account_service, format!("UPDATE accounts SET created_at = now() {of_account}")),
        (
            account_service,
            format!(
                "INSERT INTO accounts (account_id, owner_id, currency, balance) VALUES ('{new}', 'm', 'KRW', 1)"
            ),
        ),
        (
            account_service,
            format!(
                "UPDATE transaction_records SET status = 'PENDING', transaction_id = NULL,
                     balance_after = NULL {of_record}"
            ),
        ),
        (account_service, format!("UPDATE transaction_records SET balance_after = 1 {of_record}")),
        (account_service, format!("UPDATE transaction_records SET transaction_id = 1 {of_record}")),
        (
            account_service,
            format!(
                "UPDATE transaction_records SET status = 'FAILED', reason = 'INSUFFICIENT_FUNDS',
                     balance_after = NULL {of_record}"
            ),
        ),
        (account_service, format!("UPDATE transaction_records SET account_seq = 9 {of_record}")),
        (account_service, format!("UPDATE transaction_records SET amount = 1 {of_record}")),
        (
            account_service,
            format!("UPDATE transaction_records SET account_id = '{new}' {of_record}"),
        ),
        (
            account_service,
            format!("UPDATE transaction_records SET idempotency_key = 'k' {of_record}"),
        ),
        (account_service, format!("UPDATE transaction_records SET user_id = 'm' {of_record}")),
        (
            account_service,
            format!(
                "INSERT INTO transaction_records (id, account_id, idempotency_key, request_hash,
                     user_id, type, amount, currency, status, transaction_id, balance_after)
                 VALUES ('{new}', '{account}', 'k', '', 'm', 'DEPOSIT', 1, 'KRW', 'SUCCESS', 1, 1)"
            ),
        ),
        (account_service, "UPDATE pending_records SET record_id = record_id".to_owned()),
        (account_service, "UPDATE api_keys SET scopes = 'accounts:any'".to_owned()),
        (account_service, "UPDATE api_keys SET user_id = 'm'".to_owned()),
        (account_service, "UPDATE api_keys SET expires_at = 'infinity'".to_owned()),
        (account_service, format!("UPDATE api_keys SET revoked_at = NULL WHERE id = '{key}'")),
        (
            account_service,
            format!("UPDATE api_keys SET revoked_at = 'infinity' WHERE id = '{key}'"),
        ),
        (account_service, "UPDATE audit_log SET actor = 'm'".to_owned()),
        (
            account_service,
            format!(
                "INSERT INTO audit_log (id, created_at, actor, action, resource, details)
                 VALUES ('{new}', '2020-01-01', 'm', 'a', 'r', '{{}}')"
            ),
        ),
        (account_service, "INSERT INTO redrive_window DEFAULT VALUES".to_owned()),
        (account_service, "DELETE FROM redrive_window".to_owned()),
        (transaction_service, format!("{transaction} '2020-01-01')")),
        (transaction_service, format!("{transaction} now() - interval '1 second')")),
        (transaction_service, format!("{transaction} now() + interval '1 hour')")),
        (
            transaction_service,
            transaction
                .replace("(record_id", "(id, record_id")
                .replace("VALUES (", "OVERRIDING SYSTEM VALUE VALUES (1, ")
                + "now())",
        ),
        (transaction_service, "SELECT nextval('transactions_id_seq')".to_owned()),
        (transaction_service, "SELECT setval('transactions_id_seq', 1)".to_owned()),
        (
            transaction_service,
            format!("UPDATE transactions SET amount = 1 WHERE record_id = '{record}'"),
        ),
        (transaction_service, format!("UPDATE accounts SET account_id = '{new}' {of_account}")),
        (transaction_service, format!("UPDATE accounts SET currency = 'EUR' {of_account}")),
        (transaction_service, format!("UPDATE accounts SET created_at = now() {of_account}")),
        (
            transaction_service,
            format!("UPDATE accounts SET updated_at = now() - interval '1 second' {of_account}"),
        ),
        (
            transaction_service,
            format!("UPDATE accounts SET updated_at = now() + interval '1 hour' {of_account}"),
        ),
        (
            transaction_service,
            format!(
                "INSERT INTO accounts (account_id, currency, created_at, updated_at)
                 VALUES ('{new}', 'KRW', '2020-01-01', '2020-01-01')"
            ),
        ),
        (report_service, "UPDATE reports SET requested_by = 'mallory'".to_owned()),
        (report_service, "UPDATE reports SET account_owner = 'mallory'".to_owned()),
        (report_service, "UPDATE reports SET parameters = '{}'".to_owned()),
        (report_service, "UPDATE report_joins SET report_id = report_id".to_owned()),
        (report_service, "UPDATE report_artifacts SET sha256 = sha256".to_owned()),
        (report_service, "UPDATE report_artifacts SET path = path".to_owned()),
        (report_service, "UPDATE report_alerts SET payload = '{}'".to_owned()),
        (report_service, "UPDATE audit_log SET actor = 'mallory'".to_owned()),
        (
            report_service,
            format!(
                "INSERT INTO audit_log (id, created_at, actor, action, resource, details)
                 VALUES ('{new}', '2020-01-01', 'm', 'a', 'r', '{{}}')"
            ),
        ),
        (account_service, "SELECT FROM webhook_secrets".to_owned()),
        (("account", "auditor"), "SELECT FROM webhook_secrets".to_owned()),
        (account_service, "UPDATE webhook_endpoints SET url = url".to_owned()),
        (webhook_service, "UPDATE webhook_endpoints SET owner_id = 'mallory'".to_owned()),
        (webhook_service, "UPDATE webhook_secrets SET algorithm = 1".to_owned()),
        (webhook_service, "UPDATE webhook_secrets SET endpoint_id = endpoint_id".to_owned()),
        (webhook_service, "SELECT FROM audit_log".to_owned()),
        (webhook_service, "UPDATE audit_log SET actor = 'mallory'".to_owned()),
        (webhook_service, "UPDATE accounts SET balance = 1".to_owned()),
        (webhook_service, "UPDATE events SET sequence = 1".to_owned()),
        (webhook_service, "UPDATE api_keys SET revoked_at = NULL".to_owned()),
        (webhook_service, "SELECT FROM pending_records".to_owned()),
    ] {
        intruder.assert_denied(database, role, statement).await;
    }
    for (database, role) in [
        account_service,
        transaction_service,
        report_service,
        webhook_service,
        ("account", "auditor"),
        ("transaction", "auditor"),
        ("report", "auditor"),
        ("account", "report_reader"),
        ("transaction", "report_reader"),
        ("transaction", "ledger_reader"),
    ] {
        for statement in [
            "SELECT lo_create(0)",
            "SELECT lo_creat(-1)",
            "SELECT lo_from_bytea(0, 'x')",
            "CREATE TEMPORARY TABLE planted (id int)",
            "CREATE TABLE planted (id int)",
            "CREATE SCHEMA planted",
            "CREATE FUNCTION planted() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "COPY (SELECT 1) TO PROGRAM 'true'",
            "SELECT pg_reload_conf()",
            "SET session_replication_role = replica",
        ] {
            intruder.assert_denied(database, role, statement.to_owned()).await;
        }
        for table in tables(stack, database).await {
            for statement in [
                format!("TRUNCATE {table}"),
                format!("ALTER TABLE {table} DISABLE TRIGGER ALL"),
                format!("DROP TABLE {table}"),
                format!("CREATE RULE planted AS ON INSERT TO {table} DO NOTHING"),
            ] {
                intruder.assert_denied(database, role, statement).await;
            }
            let may_delete = match role {
                "account_service" => table == "pending_records",
                "webhook_service" => DELETED_WEBHOOKS.contains(&table.as_str()),
                _ => false,
            };
            if !may_delete {
                intruder.assert_denied(database, role, format!("DELETE FROM {table}")).await;
            }
        }
    }
    for role in [
        "account_service",
        "transaction_service",
        "report_service",
        "webhook_service",
        "auditor",
        "report_reader",
        "ledger_reader",
    ] {
        for database in ["postgres", "template1"] {
            intruder.assert_denied(database, role, "SELECT 1".to_owned()).await;
        }
    }
    // All of it changed nothing.
    assert_eq!(client.record(record).await.body, settled.body);
}

/// The id of a new key that is revoked.
async fn revoked_key(stack: &Stack) -> String {
    let admin = Client::admin(stack);
    let body = json!({ "name": "a test", "scopes": ["accounts:read"] });
    let key = admin.post("/v1/api-keys", &[], &body).await.text("apiKeyId").to_owned();
    let path = format!("/v1/api-keys/{key}");
    let revoked = admin.send(Method::DELETE, &path, &[], None).await.unwrap();
    assert_eq!(revoked.status, 204, "{revoked:?}");
    key
}

async fn superuser(stack: &Stack, database: &str) -> PgConnection {
    let url = stack.file().databases.account.replace("/account?", &format!("/{database}?"));
    PgConnection::connect(&url).await.unwrap()
}

async fn tables(stack: &Stack, database: &str) -> Vec<String> {
    let mut superuser = superuser(stack, database).await;
    let tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'";
    let tables = sqlx::query(tables).fetch_all(&mut superuser).await.unwrap();
    tables.iter().map(|row| row.get(0)).collect()
}

/// One session for each database and role.
struct Intruder<'a> {
    stack: &'a Stack,
    sessions: HashMap<(String, String), PgConnection>,
}

impl<'a> Intruder<'a> {
    fn new(stack: &'a Stack) -> Self {
        Self { stack, sessions: HashMap::new() }
    }

    async fn assert_denied(&mut self, database: &str, role: &str, statement: String) {
        let error = self.execute(database, role, &statement).await.err();
        let error = error.map_or_else(|| "it was allowed".to_owned(), |error| error.to_string());
        // A reader's transactions are read-only.
        let denied = ["permission denied", "must be owner", "must be superuser", "read-only"];
        assert!(denied.iter().any(|text| error.contains(text)), "{role}: {statement}: {error}");
    }

    async fn execute(&mut self, database: &str, role: &str, statement: &str) -> sqlx::Result<()> {
        let key = (database.to_owned(), role.to_owned());
        let session = match self.sessions.entry(key) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let url = as_role(self.stack, database, role);
                entry.insert(PgConnection::connect(&url).await?)
            }
        };
        let statement = sqlx::AssertSqlSafe(format!("BEGIN READ WRITE; {statement}"));
        let outcome = sqlx::raw_sql(statement).execute(&mut *session).await;
        sqlx::raw_sql("ROLLBACK").execute(session).await?;
        outcome.map(drop)
    }
}

/// What each role may do with each table, view and sequence of a database, or with new ones of a
/// schema: a line for each. A privilege without columns is one on all of them.
const GRANTS: &str = "
    WITH roles AS (
        SELECT oid, rolname FROM pg_roles WHERE NOT rolsuper AND rolname !~ '^pg_'
    ), schemas AS (
        SELECT oid, nspname FROM pg_namespace
        WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
    ), granted AS (
        SELECT nspname || '.' || relname AS name, rolname, number,
            CASE
            WHEN relkind = 'S' THEN
                CASE WHEN number IN (1, 3, 8) AND has_sequence_privilege(r.oid, c.oid, privilege)
                    THEN privilege END
            WHEN number = 8 THEN NULL
            WHEN has_table_privilege(r.oid, c.oid, privilege) THEN privilege
            WHEN number <= 4 THEN (
                SELECT privilege || ' (' || string_agg(attname, ' ' ORDER BY attnum) || ')'
                FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped
                    AND has_column_privilege(r.oid, c.oid, attnum, privilege))
            END AS privilege
        FROM pg_class c JOIN schemas s ON s.oid = relnamespace, roles r,
            unnest('{SELECT,INSERT,UPDATE,REFERENCES,DELETE,TRUNCATE,TRIGGER,USAGE}'::text[])
                WITH ORDINALITY AS p (privilege, number)
        WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
        UNION ALL
        SELECT nspname, rolname, number, privilege
        FROM schemas s, roles r,
            unnest('{USAGE,CREATE}'::text[]) WITH ORDINALITY AS p (privilege, number)
        WHERE has_schema_privilege(r.oid, s.oid, privilege)
        UNION ALL
        SELECT 'new ' || CASE defaclobjtype WHEN 'r' THEN 'tables' WHEN 'S' THEN 'sequences'
                   ELSE defaclobjtype::text END || ' of ' || nspname,
            rolname, 1, privilege_type
        FROM pg_default_acl JOIN schemas s ON s.oid = defaclnamespace,
            aclexplode(defaclacl) JOIN roles r ON r.oid = grantee
    )
    SELECT current_database() || ' ' || name || ' ' || rolname || ': '
        || string_agg(privilege, ', ' ORDER BY number, privilege)
    FROM granted WHERE privilege IS NOT NULL GROUP BY name, rolname ORDER BY name, rolname";

/// A wider grant needs a line in `grants.txt`, where it is seen.
#[tokio::test]
async fn each_role_has_the_listed_privileges_and_no_other() {
    // Other tests have tables of their own in the shared stack.
    let stack = Stack::start_servers("grants").await;
    let mut found = Vec::new();
    for database in ["account", "transaction", "report"] {
        let mut superuser = superuser(&stack, database).await;
        let grants = sqlx::query_scalar::<_, String>(GRANTS).fetch_all(&mut superuser).await;
        found.extend(grants.unwrap());
    }
    let listed = concat!(env!("CARGO_MANIFEST_DIR"), "/it/credentials/grants.txt");
    let listed = std::fs::read_to_string(listed).unwrap();
    let listed: Vec<_> = listed.lines().collect();
    let more: Vec<_> = found.iter().filter(|line| !listed.contains(&line.as_str())).collect();
    let gone: Vec<_> = listed.iter().filter(|line| !found.iter().any(|f| f == *line)).collect();
    assert!(more.is_empty() && gone.is_empty(), "not listed: {more:#?}\nnot granted: {gone:#?}");
}

/// A role may change the settings of its own sessions.
#[tokio::test]
async fn a_service_commits_to_the_disk_whatever_its_role_has_set() {
    let stack = Stack::shared().await;
    let url = as_role(stack, "report", "report_service");
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let set = "ALTER ROLE report_service SET synchronous_commit = off";
    sqlx::raw_sql(set).execute(&mut connection).await.unwrap();
    let show = "SHOW synchronous_commit";
    let mut other = PgConnection::connect(&url).await.unwrap();
    let of_role: String = sqlx::query_scalar(show).fetch_one(&mut other).await.unwrap();
    let config = DatabaseConfig {
        database_url: url.parse().unwrap(),
        database_connections: 1,
        database_timeout: Duration::from_secs(10),
        database_lifetime: Duration::from_secs(10),
    };
    let pool = runtime::postgres::pool(&config, "test").unwrap();
    let of_service: String = sqlx::query_scalar(show).fetch_one(&pool).await.unwrap();
    let reset = "ALTER ROLE report_service RESET synchronous_commit";
    sqlx::raw_sql(reset).execute(&mut connection).await.unwrap();
    assert_eq!((of_role.as_str(), of_service.as_str()), ("off", "on"));
}
