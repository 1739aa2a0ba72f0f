//! `passbook provision`: creates roles and databases on a PostgreSQL server, before the migrations.
//!
//! Deployments with another administrator for both, such as a Kubernetes operator or a cloud, do
//! not need this command.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, builder::NonEmptyStringValueParser};
use postgres_protocol::password::scram_sha_256;
use runtime::postgres;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::{database, output, retry::Retry};

/// The role with read access to every database, and no other access.
pub(crate) const AUDITOR: &str = "auditor";
/// The role with read access to the schema `reporting` of the account and the transaction database,
/// and no other access.
pub(crate) const REPORT_READER: &str = "report_reader";
/// The role with which the account-service reads some columns of the transaction database's schema
/// `reporting`, and no other access.
pub(crate) const LEDGER_READER: &str = "ledger_reader";
/// The role of the webhook-service, which shares the account database with the account-service.
pub(crate) const WEBHOOK_SERVICE: &str = "webhook_service";
/// The database with the event log and the tables of webhooks.
pub(crate) const WEBHOOKS: &str = "account";
/// The databases with a schema `reporting`.
pub(crate) const REPORTED: [&str; 2] = ["account", "transaction"];
/// The database of the ledger.
pub(crate) const LEDGER: &str = "transaction";
/// Key of the advisory lock held during a run. Two concurrent runs would create the same role
/// twice.
const LOCK: i64 = 0x7061_7373_626f_6f6b;

/// Create the databases and their roles on a PostgreSQL server.
///
/// Creates missing databases and roles, sets the given passwords, and takes privileges that every
/// role has: to connect to the databases postgres and template1, and to write large objects in
/// Passbook's databases. It changes nothing else. Repeat the command to rotate passwords. Pass
/// passwords in the environment: other users of the machine can read argument lists. Each service
/// may read, insert and update rows in its own database. It may not delete rows, change tables or
/// connect to another service's database. But the account-service may delete rows of the redrive's
/// list. The report-service also reads views of the other two, and the account-service balances and
/// decisions of the ledger. The webhook-service has a role of its own in the account database. It
/// reads the event log there, writes the tables of webhooks, and may delete endpoints, their secrets
/// and their deliveries.
#[derive(Debug, Args)]
pub(crate) struct Provision {
    /// URL of the server, with a superuser or a role permitted to create roles and databases.
    #[arg(long, value_name = "URL", env = "PASSBOOK_POSTGRES_URL", hide_env_values = true)]
    postgres_url: String,
    /// Password of the role account_service.
    #[arg(
        long,
        value_name = "PASSWORD",
        env = "PASSBOOK_ACCOUNT_SERVICE_PASSWORD",
        hide_env_values = true,
        value_parser = NonEmptyStringValueParser::new()
    )]
    account_service_password: String,
    /// Password of the role account_owner, the role for migrating the database. Without this
    /// password, the user of the URL owns the database.
    #[arg(
        long,
        value_name = "PASSWORD",
        env = "PASSBOOK_ACCOUNT_OWNER_PASSWORD",
        hide_env_values = true,
        value_parser = NonEmptyStringValueParser::new()
    )]
    account_owner_password: Option<String>,
    /// Password of the role transaction_service.
    #[arg(
        long,
        value_name = "PASSWORD",
        env = "PASSBOOK_TRANSACTION_SERVICE_PASSWORD",
        hide_env_values = true,
        value_parser = NonEmptyStringValueParser::new()
    )]
    transaction_service_password: String,
    /// Password of the role transaction_owner, as for account_owner.
    #[arg(
        long,
        value_name = "PASSWORD",
        env = "PASSBOOK_TRANSACTION_OWNER_PASSWORD",
        hide_env_values = true,
        value_parser = NonEmptyStringValueParser::new()
    )]
    transaction_owner_password: Option<String>,
    /// Password of the role report_service.
    #[arg(
        long,
        value_name = "PASSWORD",
        env = "PASSBOOK_REPORT_SERVICE_PASSWORD",
        hide_env_values = true,
        value_parser = NonEmptyStringValueParser::new()
    )]
    report_service_password: String,
    /// Password of the role report_owner, as for account_owner.
    #[arg(
        long,
        value_name = "PASSWORD",
        env = "PASSBOOK_REPORT_OWNER_PASSWORD",
        hide_env_values = true,
        value_parser = NonEmptyStringValueParser::new()
    )]
    report_owner_password: Option<String>,
    /// Password of the role webhook_service.
    #[arg(
        long,
        value_name = "PASSWORD",
        env = "PASSBOOK_WEBHOOK_SERVICE_PASSWORD",
        hide_env_values = true,
        value_parser = NonEmptyStringValueParser::new()
    )]
    webhook_service_password: String,
    /// Password of the role auditor, the role for `passbook verify` and `passbook doctor`.
    #[arg(
        long,
        value_name = "PASSWORD",
        env = "PASSBOOK_AUDITOR_PASSWORD",
        hide_env_values = true,
        value_parser = NonEmptyStringValueParser::new()
    )]
    auditor_password: String,
    /// Password of the role report_reader, the role with which the report-service reads accounts and
    /// transactions.
    #[arg(
        long,
        value_name = "PASSWORD",
        env = "PASSBOOK_REPORT_READER_PASSWORD",
        hide_env_values = true,
        value_parser = NonEmptyStringValueParser::new()
    )]
    report_reader_password: String,
    /// Password of the role ledger_reader, the role with which the account-service reads balances
    /// and decisions from the ledger.
    #[arg(
        long,
        value_name = "PASSWORD",
        env = "PASSBOOK_LEDGER_READER_PASSWORD",
        hide_env_values = true,
        value_parser = NonEmptyStringValueParser::new()
    )]
    ledger_reader_password: String,
    #[command(flatten)]
    retry: Retry,
}

/// The database of a service, and its roles with their passwords.
struct ServiceDatabase {
    database: &'static str,
    service: (&'static str, String),
    owner: Option<(&'static str, String)>,
}

impl Provision {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        database::options(&self.postgres_url)?;
        let mut connection =
            self.retry.until_ok("PostgreSQL", || database::connect(&self.postgres_url)).await?;
        sqlx::query("SELECT pg_advisory_lock($1)").bind(LOCK).execute(&mut connection).await?;
        role(&mut connection, AUDITOR, &self.auditor_password).await?;
        role(&mut connection, WEBHOOK_SERVICE, &self.webhook_service_password).await?;
        for (reader, password) in [
            (REPORT_READER, &self.report_reader_password),
            (LEDGER_READER, &self.ledger_reader_password),
        ] {
            role(&mut connection, reader, password).await?;
            let read_only = format!("ALTER ROLE {reader} SET default_transaction_read_only = on");
            execute(&mut connection, &read_only).await?;
        }
        let is_superuser = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user";
        let is_superuser: bool =
            sqlx::query_scalar(is_superuser).fetch_one(&mut connection).await?;
        if let Err(error) = execute(&mut connection, "GRANT pg_read_all_stats TO auditor").await {
            tracing::warn!(
                "pg_read_all_stats could not be granted to auditor: {error}. Without it, `passbook \
                 doctor` does not see which client holds a lock. Grant it as a superuser"
            );
        }
        if is_superuser {
            execute(&mut connection, CONNECT).await?;
        } else {
            tracing::warn!(
                "every role may connect to postgres and template1, and write large objects: the \
                 user of the URL is no superuser. Run as a superuser: {CONNECT}. And in each of \
                 Passbook's databases: {LARGE_OBJECTS}"
            );
        }
        let mut rows = Vec::new();
        for service_database in self.service_databases() {
            let database = service_database.database;
            service_database
                .create(&mut connection, is_superuser)
                .await
                .with_context(|| format!("database {database}"))?;
            if is_superuser {
                let options = database::options(&self.postgres_url)?.database(database);
                let mut inside = postgres::connect(&options).await?;
                execute(&mut inside, LARGE_OBJECTS).await?;
                inside.close().await?;
            }
            let owner = service_database.owner.map_or("-", |(owner, _)| owner);
            rows.push([database, owner, service_database.service.0].map(str::to_owned).to_vec());
        }
        connection.close().await?;
        output::table(&["DATABASE", "OWNER", "SERVICE"], rows)?;
        Ok(ExitCode::SUCCESS)
    }

    fn service_databases(&self) -> [ServiceDatabase; 3] {
        let service_database =
            |database, service, password: &String, owner, owner_password: &Option<String>| {
                ServiceDatabase {
                    database,
                    service: (service, password.clone()),
                    owner: owner_password.clone().map(|password| (owner, password)),
                }
            };
        [
            service_database(
                "account",
                "account_service",
                &self.account_service_password,
                "account_owner",
                &self.account_owner_password,
            ),
            service_database(
                "transaction",
                "transaction_service",
                &self.transaction_service_password,
                "transaction_owner",
                &self.transaction_owner_password,
            ),
            service_database(
                "report",
                "report_service",
                &self.report_service_password,
                "report_owner",
                &self.report_owner_password,
            ),
        ]
    }
}

impl ServiceDatabase {
    async fn create(&self, server: &mut PgConnection, is_superuser: bool) -> Result<()> {
        let Self { database, service: (service, password), owner } = self;
        role(server, service, password).await?;
        if let Some((owner, password)) = owner {
            role(server, owner, password).await?;
        }
        let exists =
            sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)");
        if !exists.bind(database).fetch_one(&mut *server).await? {
            execute(server, &format!("CREATE DATABASE {database}")).await?;
        }
        execute(server, &format!("REVOKE ALL ON DATABASE {database} FROM PUBLIC")).await?;
        let mut roles = vec![service, AUDITOR];
        if REPORTED.contains(database) {
            roles.push(REPORT_READER);
        }
        if *database == LEDGER {
            roles.push(LEDGER_READER);
        }
        if *database == WEBHOOKS {
            roles.push(WEBHOOK_SERVICE);
        }
        let roles = roles.join(", ");
        execute(server, &format!("GRANT CONNECT ON DATABASE {database} TO {roles}")).await?;
        if let Some((owner, _)) = owner {
            if !is_superuser {
                // Changing a database's owner requires membership in the new owner's role.
                execute(server, &format!("GRANT {owner} TO CURRENT_USER")).await?;
            }
            execute(server, &format!("ALTER DATABASE {database} OWNER TO {owner}")).await?;
        }
        Ok(())
    }
}

/// A session in one of these databases blocks `CREATE DATABASE`. Superusers connect as before.
const CONNECT: &str = "REVOKE CONNECT, TEMPORARY ON DATABASE postgres, template1 FROM PUBLIC";
/// Every role may otherwise write large objects, also one that only reads tables.
const LARGE_OBJECTS: &str = "REVOKE EXECUTE ON FUNCTION
    lo_creat(integer), lo_create(oid), lo_from_bytea(oid, bytea), lo_put(oid, bigint, bytea),
    lo_truncate(integer, integer), lo_truncate64(integer, bigint), lo_unlink(oid),
    lowrite(integer, bytea) FROM PUBLIC";

/// Creates a login role, or sets its password if the role exists.
async fn role(server: &mut PgConnection, name: &str, password: &str) -> Result<()> {
    let exists = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)");
    let exists: bool = exists.bind(name).fetch_one(&mut *server).await?;
    let verb = if exists { "ALTER" } else { "CREATE" };
    let statement = format!("SELECT format('{verb} ROLE %I LOGIN PASSWORD %L', $1, $2)");
    let statement: String = sqlx::query_scalar(AssertSqlSafe(statement))
        .bind(name)
        // Statements may end up in the server's log, so they contain the password's hash only.
        .bind(scram_sha_256(password.as_bytes()))
        .fetch_one(&mut *server)
        .await?;
    execute(server, &statement).await.with_context(|| format!("role {name}"))
}

async fn execute(server: &mut PgConnection, statement: &str) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(server).await?;
    Ok(())
}
