//! `passbook provision`: what a PostgreSQL server needs before the migrations.
//! Where another hand makes roles and databases (an operator of Kubernetes, a
//! cloud), it is not needed.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, builder::NonEmptyStringValueParser};
use postgres_protocol::password::scram_sha_256;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::{database, output, patience::Patience};

/// Who may read everything of every database, and nothing else.
const AUDITOR: &str = "auditor";
/// Held while this runs: two at the same time would make the same role twice.
const LOCK: i64 = 0x7061_7373_626f_6f6b;

/// Make the databases and their roles on a PostgreSQL server.
///
/// Makes what is missing, sets the passwords given, changes nothing else; can be repeated, and
/// rotates passwords that way. Give them by the environment: an argument list is open to all. Each
/// service may read and write rows in its own database, and neither delete them, nor change tables,
/// nor connect to another's.
#[derive(Debug, Args)]
pub(crate) struct Provision {
    /// URL of the server, as a superuser or a role that may make roles and databases.
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
    /// Password of the role account_owner, which migrates the database. Without, the database
    /// belongs to whom the URL names.
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
    /// Password of the role transaction_owner.
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
    /// Password of the role report_owner.
    #[arg(
        long,
        value_name = "PASSWORD",
        env = "PASSBOOK_REPORT_OWNER_PASSWORD",
        hide_env_values = true,
        value_parser = NonEmptyStringValueParser::new()
    )]
    report_owner_password: Option<String>,
    /// Password of the role auditor, as which `passbook verify` and `passbook doctor` look.
    #[arg(
        long,
        value_name = "PASSWORD",
        env = "PASSBOOK_AUDITOR_PASSWORD",
        hide_env_values = true,
        value_parser = NonEmptyStringValueParser::new()
    )]
    auditor_password: String,
    #[command(flatten)]
    patience: Patience,
}

/// A service's database and its roles.
struct Tenant {
    database: &'static str,
    service: (&'static str, String),
    owner: Option<(&'static str, String)>,
}

impl Provision {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        database::options(&self.postgres_url)?;
        let mut connection =
            self.patience.until("PostgreSQL", || database::connect(&self.postgres_url)).await?;
        sqlx::query("SELECT pg_advisory_lock($1)").bind(LOCK).execute(&mut connection).await?;
        role(&mut connection, AUDITOR, &self.auditor_password).await?;
        let super_user = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user";
        let super_user: bool = sqlx::query_scalar(super_user).fetch_one(&mut connection).await?;
        if let Err(error) = execute(&mut connection, "GRANT pg_read_all_stats TO auditor").await {
            tracing::warn!(
                "`passbook doctor` will not see who holds others up: grant pg_read_all_stats to \
                 auditor, as somebody who may ({error})"
            );
        }
        let mut made = Vec::new();
        for tenant in self.tenants() {
            let database = tenant.database;
            tenant
                .make(&mut connection, super_user)
                .await
                .with_context(|| format!("database {database}"))?;
            let owner = tenant.owner.map_or("-", |(owner, _)| owner);
            made.push([database, owner, tenant.service.0].map(str::to_owned).to_vec());
        }
        connection.close().await?;
        output::table(&["DATABASE", "OWNER", "SERVICE"], made)?;
        Ok(ExitCode::SUCCESS)
    }

    fn tenants(&self) -> [Tenant; 3] {
        let tenant =
            |database, service, password: &String, owner, owner_password: &Option<String>| Tenant {
                database,
                service: (service, password.clone()),
                owner: owner_password.clone().map(|password| (owner, password)),
            };
        [
            tenant(
                "account",
                "account_service",
                &self.account_service_password,
                "account_owner",
                &self.account_owner_password,
            ),
            tenant(
                "transaction",
                "transaction_service",
                &self.transaction_service_password,
                "transaction_owner",
                &self.transaction_owner_password,
            ),
            tenant(
                "report",
                "report_service",
                &self.report_service_password,
                "report_owner",
                &self.report_owner_password,
            ),
        ]
    }
}

impl Tenant {
    async fn make(&self, server: &mut PgConnection, by_super_user: bool) -> Result<()> {
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
        execute(server, &format!("GRANT CONNECT ON DATABASE {database} TO {service}, {AUDITOR}"))
            .await?;
        if let Some((owner, _)) = owner {
            if !by_super_user {
                // Who gives a database away has to be able to become its owner.
                execute(server, &format!("GRANT {owner} TO CURRENT_USER")).await?;
            }
            execute(server, &format!("ALTER DATABASE {database} OWNER TO {owner}")).await?;
        }
        Ok(())
    }
}

/// Makes a role that may log in, or sets its password.
async fn role(server: &mut PgConnection, name: &str, password: &str) -> Result<()> {
    let exists = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)");
    let exists: bool = exists.bind(name).fetch_one(&mut *server).await?;
    let verb = if exists { "ALTER" } else { "CREATE" };
    let statement = format!("SELECT format('{verb} ROLE %I LOGIN PASSWORD %L', $1, $2)");
    let statement: String = sqlx::query_scalar(AssertSqlSafe(statement))
        .bind(name)
        // The server may log statements, so it never sees the password.
        .bind(scram_sha_256(password.as_bytes()))
        .fetch_one(&mut *server)
        .await?;
    execute(server, &statement).await.with_context(|| format!("role {name}"))
}

async fn execute(server: &mut PgConnection, statement: &str) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(server).await?;
    Ok(())
}
