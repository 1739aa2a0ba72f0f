//! `passbook wait`: waits for migrated databases and existing streams.
//!
//! A service's pods run it before the service, so that the service starts after the jobs for the
//! migrations and streams.

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args;
use contract::{MOVEMENT_STREAMS, StreamStorage};
use runtime::postgres::limited;
use sqlx::{Connection, migrate::Migrator};

use crate::{
    arguments::{DatabaseArguments, NatsArguments, ReportQueueArguments},
    broker::{Address, Broker},
    database, migrations, output,
    retry::Retry,
};

/// Wait until the databases are migrated and the streams exist.
///
/// Checks the databases and the broker with given URLs, and changes nothing. A service's own
/// credentials suffice. With the report-service's database alone, the streams are those of reports,
/// else those of deposits and withdrawals.
#[derive(Debug, Args)]
pub(crate) struct Wait {
    #[command(flatten)]
    databases: DatabaseArguments,
    /// URL of the report-service's database.
    #[arg(long, value_name = "URL", env = "PASSBOOK_REPORT_DATABASE_URL", hide_env_values = true)]
    report_database_url: Option<String>,
    #[command(flatten)]
    nats: NatsArguments,
    #[command(flatten)]
    report_queue: ReportQueueArguments,
    #[command(flatten)]
    retry: Retry,
}

impl Wait {
    /// Returns once the databases are migrated and the streams exist.
    ///
    /// # Errors
    /// The first thing still missing when the time is over.
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let DatabaseArguments { account_database_url, transaction_database_url } = self.databases;
        let nats = self.nats.address();
        let only_reports = self.report_database_url.is_some()
            && account_database_url.is_none()
            && transaction_database_url.is_none();
        let of_reports = self.report_queue.topology(StreamStorage::DEFAULT).report_streams();
        let streams: &[&str] = if only_reports { &of_reports } else { &MOVEMENT_STREAMS };
        let databases = [
            ("the account database", account_database_url, &*migrations::ACCOUNT),
            ("the transaction database", transaction_database_url, &*migrations::TRANSACTION),
            ("the report database", self.report_database_url, &*migrations::REPORT),
        ];
        ensure!(
            nats.is_some() || databases.iter().any(|(_, url, _)| url.is_some()),
            "nothing to wait for: give at least one URL, such as --nats-url"
        );
        for (name, url, migrations) in databases {
            let Some(url) = url else { continue };
            database::options(&url).context(name)?;
            self.retry
                .until_ok(name, || async { limited(check_migrated(&url, migrations)).await? })
                .await
                .context(name)?;
            output::line(&format!("{name} is migrated"))?;
        }
        if let Some(address) = nats {
            address.servers()?;
            self.retry
                .until_ok("NATS", || check_streams(&address, streams))
                .await
                .context("NATS")?;
            output::line("the streams are there")?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn check_migrated(url: &str, migrations: &Migrator) -> Result<()> {
    let mut connection = database::connect_limited(url).await?;
    let has_table = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL";
    let has_table: bool = sqlx::query_scalar(has_table).fetch_one(&mut connection).await?;
    ensure!(has_table, "it is not migrated yet: run `passbook migrate`");
    let applied = "SELECT version FROM _sqlx_migrations WHERE success";
    let applied: Vec<i64> = sqlx::query_scalar(applied).fetch_all(&mut connection).await?;
    connection.close().await?;
    for migration in migrations.iter() {
        let (version, description) = (migration.version, &migration.description);
        ensure!(
            applied.contains(&version),
            "migration {version} {description} is not applied: run `passbook migrate`"
        );
    }
    Ok(())
}

async fn check_streams(address: &Address, streams: &[&str]) -> Result<()> {
    let broker = Broker::connect(address).await?;
    for &name in streams {
        let stream = broker.stream(name).await?;
        ensure!(
            stream.is_some(),
            "the stream {name} is missing: create it with `passbook streams`"
        );
    }
    Ok(())
}
