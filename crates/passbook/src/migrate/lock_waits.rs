//! Applies migrations with short waits for locks.
//!
//! An `ALTER TABLE` waits for all transactions that have read the table, such as that of a dump or
//! of `passbook verify`. Later statements on the table wait behind it, inserts included. So a wait
//! is cut short, the inserts go on, and the migration is tried again.

use std::{
    convert::Infallible,
    fmt,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use clap::Args;
use sqlx::{
    Executor as _, PgConnection,
    migrate::{MigrateError, Migration, Migrator},
};

use super::index_pairs;

/// Longest wait for a lock. A request that waits behind it takes this much longer.
const WAIT: &str = "1s";
/// The time for other statements between two attempts.
const PAUSE: Duration = Duration::from_secs(5);
/// How often to look for what a migration waits for.
const LOOK: Duration = Duration::from_millis(200);

/// How long to try.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct LockWaits {
    /// How long to retry a migration that needs a lock which others hold. Each attempt waits for a
    /// second, so that requests go on.
    #[arg(long = "lock-limit", value_name = "DURATION", env = "PASSBOOK_MIGRATE_LOCK_LIMIT",
          value_parser = humantime::parse_duration, default_value = "10m")]
    limit: Duration,
}

/// What a migration waits for.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
struct Wait {
    /// Such as `AccessExclusiveLock on accounts`.
    wanted: String,
    /// Such as `process 7 (pg_dump, user auditor, its transaction is open for 00:10:00)`.
    holders: String,
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, blocked by {}", self.wanted, self.holders)
    }
}

impl LockWaits {
    /// Applies a pending migration. `observer` is another connection to the same database.
    ///
    /// # Errors
    /// If the migration fails, or gets no lock for too long.
    pub(super) async fn apply(
        self,
        connection: &mut PgConnection,
        observer: &mut PgConnection,
        migrations: &Migrator,
        migration: &Migration,
    ) -> Result<()> {
        // `CONCURRENTLY` waits for others, but nobody waits behind it. Cut short, it would leave an
        // invalid index.
        let wait = if migration.no_tx { "0" } else { WAIT };
        set_lock_timeout(connection, wait).await?;
        let begun = Instant::now();
        let (version, description) = (migration.version, &*migration.description);
        let process = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut *connection);
        let process: i32 = process.await?;
        loop {
            let mut last = None;
            let applied = tokio::select! {
                applied = attempt(connection, migrations, migration) => applied,
                never = observe(observer, process, migration, &mut last) => match never {},
            };
            match applied {
                Ok(()) => return Ok(set_lock_timeout(connection, "0").await?),
                Err(error) if lacks_lock(&error) => {}
                Err(error) => return Err(error.into()),
            }
            let wait = last.map_or_else(|| "a lock".to_owned(), |wait: Wait| wait.to_string());
            if begun.elapsed() + PAUSE > self.limit {
                bail!(
                    "migration {version} ({description}) waited for {wait} again and again for \
                     {}. Nothing of it is applied. Let that transaction end, or end it with \
                     pg_terminate_backend(process), and migrate again",
                    humantime::format_duration(self.limit)
                );
            }
            tracing::warn!(
                "migration {version} ({description}) waits for {wait}; requests go on, the next \
                 attempt follows in {} s",
                PAUSE.as_secs()
            );
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Applies a migration. If it creates an index, first drops the one that an interrupted attempt has
/// left.
async fn attempt(
    connection: &mut PgConnection,
    migrations: &Migrator,
    migration: &Migration,
) -> Result<(), MigrateError> {
    if let Some(before) = index_pairs::drop_before(migrations, migration) {
        let dropped = connection.execute(before.sql.clone()).await;
        dropped.map_err(|error| MigrateError::ExecuteMigration(error, before.version))?;
    }
    migrations.run_to(migration.version, connection).await
}

/// Keeps what the process waits for in `last`. For a migration without a limit, it is logged.
async fn observe(
    observer: &mut PgConnection,
    process: i32,
    migration: &Migration,
    last: &mut Option<Wait>,
) -> Infallible {
    loop {
        tokio::time::sleep(LOOK).await;
        let wait = match find_wait(observer, process).await {
            Ok(wait) => wait,
            Err(error) => {
                tracing::debug!(%error, "what the migration waits for is unknown");
                None
            }
        };
        let Some(wait) = wait else { continue };
        let is_new = last.as_ref().is_none_or(|last| last.wanted != wait.wanted);
        if migration.no_tx && is_new {
            let version = migration.version;
            tracing::warn!("migration {version} waits for {wait}; requests go on meanwhile");
        }
        *last = Some(wait);
    }
}

async fn find_wait(observer: &mut PgConnection, process: i32) -> sqlx::Result<Option<Wait>> {
    // The columns of other users' processes are empty for a role without pg_read_all_stats.
    sqlx::query_as(
        "SELECT coalesce((SELECT coalesce(mode || ' on ' || relation::regclass, 'the end of a transaction')
                          FROM pg_locks WHERE pid = $1 AND NOT granted LIMIT 1), 'a lock') AS wanted,
                string_agg(format('process %s (%s, user %s%s)', pid,
                        coalesce(nullif(application_name, ''), backend_type, 'unknown program'),
                        coalesce(usename, 'unknown'),
                        ', its transaction is open for '
                            || date_trunc('second', clock_timestamp() - xact_start)), ' and ') AS holders
         FROM (SELECT DISTINCT unnest(pg_blocking_pids($1)) AS pid) AS blocking
              LEFT JOIN pg_stat_activity USING (pid)
         HAVING count(*) > 0",
    )
    .bind(process)
    .fetch_optional(observer)
    .await
}

/// Whether a lock was not available: lock_not_available, deadlock_detected.
fn lacks_lock(error: &MigrateError) -> bool {
    let (MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) = error else {
        return false;
    };
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| ["55P03", "40P01"].contains(&&*code))
}

async fn set_lock_timeout(connection: &mut PgConnection, value: &'static str) -> sqlx::Result<()> {
    sqlx::query("SELECT set_config('lock_timeout', $1, false)")
        .bind(value)
        .execute(connection)
        .await?;
    Ok(())
}
