//! `passbook migrate`: applies the embedded migrations and grants the services their privileges.
//!
//! The migrations are part of this program, so a release migrates with the same binary everywhere.
//!
//! Under one lock: first the rights of service, auditor and report reader on present and future
//! tables, then the migrations, so that no new table ever lacks them; one that the service never
//! writes loses its writes at once. Last, the service's rights on the tables of this release are
//! limited to the columns that it writes, and the ledger reader and the webhook-service get the
//! columns that they use. Other roles can't connect: see [`access`].

mod access;
mod columns;
mod index_pairs;
mod ledger_reader;
mod lock_waits;
mod webhooks;

use std::{collections::HashSet, process::ExitCode, time::Duration};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Serialize;
use sqlx::{
    AssertSqlSafe, Connection, PgConnection,
    migrate::{Migrate as _, Migrator},
};

use crate::{
    arguments::DatabaseArguments,
    database, migrations,
    output::{self, Format, Output},
    provision::{
        AUDITOR, LEDGER, LEDGER_READER, REPORT_READER, REPORTED, WEBHOOK_SERVICE, WEBHOOKS,
    },
    retry::Retry,
};

use lock_waits::LockWaits;

/// Key of the advisory lock held during a run.
const LOCK: i64 = 0x7061_7373_6d69_6772;

/// Migrate databases to the schema of this release.
///
/// Migrates each database with a given URL; the URL's user must own the database. A second run at
/// the same time waits for the first. The roles of the service, of the auditor and of the readers of
/// reports and of the ledger are granted their privileges. Once all of them exist, only they may
/// connect, and roles with a GRANT of their own: the right is taken from PUBLIC. With --wait, the
/// command also waits until these roles exist. Prints the applied migrations.
///
/// Safe beside running services and readers: a migration that needs a lock held by others waits for
/// a second, then lets the requests go on and tries again.
#[derive(Debug, Args)]
pub(crate) struct Migrate {
    #[command(flatten)]
    databases: DatabaseArguments,
    /// URL of the report-service's database.
    #[arg(long, value_name = "URL", env = "PASSBOOK_REPORT_DATABASE_URL", hide_env_values = true)]
    report_database_url: Option<String>,
    #[command(flatten)]
    lock_waits: LockWaits,
    #[command(flatten)]
    retry: Retry,
    #[command(flatten)]
    format: Format,
}

/// A migration applied in this run.
#[derive(Debug, Serialize)]
struct AppliedMigration {
    database: &'static str,
    version: i64,
    description: String,
}

impl Migrate {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let DatabaseArguments { account_database_url, transaction_database_url } = &self.databases;
        let databases = [
            ("account", account_database_url, &*migrations::ACCOUNT),
            ("transaction", transaction_database_url, &*migrations::TRANSACTION),
            ("report", &self.report_database_url, &*migrations::REPORT),
        ];
        ensure!(
            databases.iter().any(|(_, url, _)| url.is_some()),
            "no database to migrate: give at least one URL, such as --account-database-url"
        );
        let mut applied = Vec::new();
        for (database, url, migrations) in databases {
            let Some(url) = url else { continue };
            let name = format!("the {database} database");
            database::options(url).with_context(|| name.clone())?;
            let connect = self.retry.until_ok(&name, || self.connect(url, database));
            let migrated = async {
                let connection = connect.await?;
                let observer = database::connect(url).await?;
                self.migrate(database, connection, observer, migrations).await
            };
            applied.extend(migrated.await.with_context(|| format!("migrating {name}"))?);
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

    /// Connects to a database. With `--wait`, also requires the roles, so that the retries wait for
    /// their creation.
    async fn connect(&self, url: &str, database: &str) -> Result<PgConnection> {
        let mut connection = database::connect(url).await?;
        if self.retry.is_enabled() {
            let missing = missing_roles(&mut connection, database).await?;
            ensure!(missing.is_empty(), "there is no role {} yet", missing.join(", and no role "));
        }
        Ok(connection)
    }

    async fn migrate(
        &self,
        database: &'static str,
        mut connection: PgConnection,
        mut observer: PgConnection,
        migrations: &Migrator,
    ) -> Result<Vec<AppliedMigration>> {
        // Held around the grants too: grants and another run's migrations change the same rows of
        // PostgreSQL's catalogs.
        lock(&mut connection).await?;
        let before = applied_versions(&mut connection, migrations).await?;
        grant(&mut connection, database).await.context("granting privileges")?;
        for migration in migrations.iter().filter(|pending| !before.contains(&pending.version)) {
            let apply =
                self.lock_waits.apply(&mut connection, &mut observer, migrations, migration);
            apply.await?;
            let revoke = columns::revoke_unwritten(&mut connection, database);
            revoke.await.context("revoking privileges")?;
        }
        // Nothing is pending: this compares the applied ones with those of this release.
        migrations.run(&mut connection).await?;
        let after = applied_versions(&mut connection, migrations).await?;
        columns::limit(&mut connection, database).await.context("limiting the privileges")?;
        if database == LEDGER {
            ledger_reader::grant(&mut connection).await.context("granting the ledger's columns")?;
        }
        if database == WEBHOOKS {
            webhooks::grant(&mut connection).await.context("granting the tables of webhooks")?;
        }
        connection.close().await?;
        let newer = after.iter().filter(|&&version| !migrations.version_exists(version)).count();
        if newer > 0 {
            tracing::warn!(
                "the {database} database has {newer} migrations unknown to this release: a newer one \
                 was here"
            );
        }
        let new = migrations.iter().filter(|migration| {
            after.contains(&migration.version) && !before.contains(&migration.version)
        });
        let applied = new.map(|migration| AppliedMigration {
            database,
            version: migration.version,
            description: migration.description.to_string(),
        });
        Ok(applied.collect())
    }
}

/// Takes this command's lock, then sqlx's, which is free by then.
///
/// A run that waits inside a statement has a snapshot. `CREATE INDEX CONCURRENTLY` of the first run
/// waits for all snapshots, so both would wait for each other. Therefore this lock is polled.
async fn lock(connection: &mut PgConnection) -> Result<()> {
    let lock = "SELECT pg_try_advisory_lock($1)";
    while !sqlx::query_scalar(lock).bind(LOCK).fetch_one(&mut *connection).await? {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(connection.lock().await?)
}

/// Grants the roles their privileges. A service may read, insert and update rows; it may neither
/// change tables nor delete rows, except as [`columns`] and [`webhooks`] say. An auditor may read. A
/// report reader may read the views of the schema `reporting`, which the services' roles can't see.
///
/// A service may read all tables. As a default privilege, it may write the tables of later
/// migrations, so a new table always has its grants, even if this process is killed. The writes to
/// existing tables stay as they are here: [`columns`] grants and limits them.
async fn grant(connection: &mut PgConnection, database: &str) -> Result<()> {
    let missing = missing_roles(connection, database).await?;
    if !missing.is_empty() {
        tracing::warn!(
            "there is no role {} to grant privileges to: create it with `passbook provision`, then \
             migrate again",
            missing.join(", and no role ")
        );
    } else {
        access::limit(connection, database, &roles(database)).await?;
    }
    if REPORTED.contains(&database) {
        let create = "CREATE SCHEMA IF NOT EXISTS reporting";
        sqlx::raw_sql(create).execute(&mut *connection).await?;
    }
    for role in roles(database).iter().filter(|role| !missing.contains(role)) {
        if [LEDGER_READER, WEBHOOK_SERVICE].contains(&role.as_str()) {
            continue;
        }
        if *role != service(database) && REPORTED.contains(&database) {
            grant_views(connection, role).await?;
        }
        let writes = match role.as_str() {
            REPORT_READER => continue,
            AUDITOR => "",
            _ => ", INSERT, UPDATE",
        };
        let hidden = webhooks::hide_secrets(role);
        // An identity column needs no privilege on its sequence.
        let grants = format!(
            "BEGIN;
             GRANT USAGE ON SCHEMA public TO {role};
             GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role};
             REVOKE INSERT, UPDATE ON _sqlx_migrations FROM {role};
             {hidden}
             REVOKE USAGE ON ALL SEQUENCES IN SCHEMA public FROM {role};
             GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO {role};
             ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT{writes} ON TABLES TO {role};
             ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE USAGE ON SEQUENCES FROM {role};
             ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON SEQUENCES TO {role};
             COMMIT"
        );
        sqlx::raw_sql(AssertSqlSafe(grants)).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Grants a role the views of the schema `reporting`.
async fn grant_views(connection: &mut PgConnection, role: &str) -> Result<()> {
    let grants = format!(
        "BEGIN;
         GRANT USAGE ON SCHEMA reporting TO {role};
         GRANT SELECT ON ALL TABLES IN SCHEMA reporting TO {role};
         ALTER DEFAULT PRIVILEGES IN SCHEMA reporting GRANT SELECT ON TABLES TO {role};
         COMMIT"
    );
    sqlx::raw_sql(AssertSqlSafe(grants)).execute(&mut *connection).await?;
    Ok(())
}

/// The roles to grant privileges to. `passbook provision` or another administrator creates them.
fn roles(database: &str) -> Vec<String> {
    let mut roles = vec![service(database), AUDITOR.to_owned()];
    if REPORTED.contains(&database) {
        roles.push(REPORT_READER.to_owned());
    }
    if database == LEDGER {
        roles.push(LEDGER_READER.to_owned());
    }
    if database == WEBHOOKS {
        roles.push(WEBHOOK_SERVICE.to_owned());
    }
    roles
}

fn service(database: &str) -> String {
    format!("{database}_service")
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
