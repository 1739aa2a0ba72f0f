//! `passbook migrate`: the migrations of every database are part of this
//! program, so that a release migrates with the same binary everywhere.

use std::{collections::HashSet, process::ExitCode, sync::LazyLock};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Serialize;
use sqlx::{
    AssertSqlSafe, Connection, PgConnection,
    migrate::{Migrate as _, Migrator},
};

use crate::{
    cli::Databases,
    database,
    output::{self, Format, Output},
    patience::Patience,
};

/// The account-service's.
pub(crate) static ACCOUNT: LazyLock<Migrator> =
    LazyLock::new(|| beside_newer(sqlx::migrate!("../../migrations/account")));
/// The transaction-service's.
pub(crate) static TRANSACTION: LazyLock<Migrator> =
    LazyLock::new(|| beside_newer(sqlx::migrate!("../../migrations/transaction")));
static REPORT: LazyLock<Migrator> =
    LazyLock::new(|| beside_newer(sqlx::migrate!("../../migrations/report")));

/// A release that is rolled back finds the migrations of the newer one applied.
/// They only expand what this one knows, so it works beside them.
fn beside_newer(mut migrations: Migrator) -> Migrator {
    migrations.set_ignore_missing(true);
    migrations
}

/// Bring databases to the state that this release expects.
///
/// Each database whose URL is given, as its owner, is migrated, in one run that a second one at the
/// same time waits for. The roles of the service and of the auditor are granted what they need;
/// with --wait, they are waited for, too. Prints what was applied.
#[derive(Debug, Args)]
pub(crate) struct Migrate {
    #[command(flatten)]
    databases: Databases,
    /// URL of the report-service's database.
    #[arg(long, value_name = "URL", env = "PASSBOOK_REPORT_DATABASE_URL", hide_env_values = true)]
    report_database_url: Option<String>,
    #[command(flatten)]
    patience: Patience,
    #[command(flatten)]
    format: Format,
}

/// A migration that was applied in this run.
#[derive(Debug, Serialize)]
struct Applied {
    database: &'static str,
    version: i64,
    description: String,
}

impl Migrate {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let Databases { account_database_url, transaction_database_url } = &self.databases;
        let databases = [
            ("account", account_database_url, &*ACCOUNT),
            ("transaction", transaction_database_url, &*TRANSACTION),
            ("report", &self.report_database_url, &*REPORT),
        ];
        ensure!(
            databases.iter().any(|(_, url, _)| url.is_some()),
            "no database to migrate: give at least one URL, such as --account-database-url"
        );
        let mut applied = Vec::new();
        for (database, url, migrations) in databases {
            let Some(url) = url else { continue };
            let what = format!("the {database} database");
            database::options(url).with_context(|| what.clone())?;
            let connected = self.patience.until(&what, || self.provisioned(url, database));
            let now = async { migrate(database, connected.await?, migrations).await };
            applied.extend(now.await.with_context(|| format!("migrating {what}"))?);
        }
        match self.format.output {
            Output::Json => output::json(&applied)?,
            Output::Table if applied.is_empty() => output::line("nothing to apply")?,
            Output::Table => output::table(
                &["DATABASE", "VERSION", "MIGRATION"],
                applied.into_iter().map(|migration| {
                    let version = migration.version.to_string();
                    vec![migration.database.to_owned(), version, migration.description]
                }),
            )?,
        }
        Ok(ExitCode::SUCCESS)
    }

    /// A connection to a database whose roles are there: who waits for servers waits for whoever
    /// makes roles, too.
    async fn provisioned(&self, url: &str, database: &str) -> Result<PgConnection> {
        let mut connection = database::connect(url).await?;
        if self.patience.is_some() {
            let missing = missing_roles(&mut connection, database).await?;
            ensure!(missing.is_empty(), "there is no role {} yet", missing.join(", and none "));
        }
        Ok(connection)
    }
}

async fn migrate(
    database: &'static str,
    mut connection: PgConnection,
    migrations: &Migrator,
) -> Result<Vec<Applied>> {
    // The lock that a run of migrations takes, once more around all of it: who grants while
    // another one changes tables would change the same rows.
    connection.lock().await?;
    let before = applied_versions(&mut connection, migrations).await?;
    grant(&mut connection, database).await.context("granting the service what it needs")?;
    migrations.run(&mut connection).await?;
    let after = applied_versions(&mut connection, migrations).await?;
    let pinned = sqlx::raw_sql(PIN).execute(&mut connection).await;
    pinned.context("granting the service no more than it needs")?;
    connection.close().await?;
    let newer = after.iter().filter(|&&version| !migrations.version_exists(version)).count();
    if newer > 0 {
        tracing::warn!(
            "the {database} database has {newer} migrations that this release does not know: a \
             newer one was here"
        );
    }
    let new = migrations.iter().filter(|migration| {
        after.contains(&migration.version) && !before.contains(&migration.version)
    });
    let applied = new.map(|migration| Applied {
        database,
        version: migration.version,
        description: migration.description.to_string(),
    });
    Ok(applied.collect())
}

/// A service may read and write rows, and neither delete them nor change
/// tables; an auditor may read.
///
/// Of the tables that are there, and of those that migrations make from now on:
/// a new one is never there without its grants, whatever happens to this process.
async fn grant(connection: &mut PgConnection, database: &str) -> Result<()> {
    let missing = missing_roles(connection, database).await?;
    if !missing.is_empty() {
        tracing::warn!(
            "there is no role {}, to be granted what it needs: make it (`passbook provision`), and \
             migrate again",
            missing.join(", and none ")
        );
    }
    for role in roles(database).iter().filter(|role| !missing.contains(role)) {
        let (rows, numbers) = match role.as_str() {
            "auditor" => ("SELECT", "SELECT"),
            _ => ("SELECT, INSERT, UPDATE", "SELECT, USAGE"),
        };
        let grants = format!(
            "BEGIN;
             GRANT USAGE ON SCHEMA public TO {role};
             GRANT {rows} ON ALL TABLES IN SCHEMA public TO {role};
             GRANT {numbers} ON ALL SEQUENCES IN SCHEMA public TO {role};
             REVOKE INSERT, UPDATE ON _sqlx_migrations FROM {role};
             {PIN}
             ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT {rows} ON TABLES TO {role};
             ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT {numbers} ON SEQUENCES TO {role};
             COMMIT"
        );
        sqlx::raw_sql(AssertSqlSafe(grants)).execute(&mut *connection).await?;
    }
    Ok(())
}

/// What the ledger has decided stays: its service may add a transaction, and
/// change none.
const PIN: &str = "
    DO $$ BEGIN
        IF to_regclass('transactions') IS NOT NULL AND to_regrole('transaction_service') IS NOT NULL THEN
            REVOKE UPDATE ON transactions FROM transaction_service;
        END IF;
    END $$;";

/// The roles that somebody else is to make.
fn roles(database: &str) -> [String; 2] {
    [format!("{database}_service"), "auditor".to_owned()]
}

async fn missing_roles(connection: &mut PgConnection, database: &str) -> Result<Vec<String>> {
    let missing = "SELECT name FROM unnest($1::text[]) AS name
                   WHERE name NOT IN (SELECT rolname FROM pg_roles)";
    Ok(sqlx::query_scalar(missing).bind(roles(database)).fetch_all(connection).await?)
}

async fn applied_versions(
    connection: &mut PgConnection,
    migrations: &Migrator,
) -> Result<HashSet<i64>> {
    connection.ensure_migrations_table(&migrations.table_name).await?;
    let applied = connection.list_applied_migrations(&migrations.table_name).await?;
    Ok(applied.into_iter().map(|migration| migration.version).collect())
}
