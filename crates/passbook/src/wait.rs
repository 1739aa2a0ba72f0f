//! `passbook wait`: the pods of a service wait with it until the jobs that set
//! up what they stand on are done.

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args;
use contract::MOVEMENT_STREAMS;
use sqlx::{Connection, migrate::Migrator};

use crate::{
    broker::{Address, Broker, Place},
    cli::Databases,
    database, migrate, output,
    patience::Patience,
};

/// Wait until the databases are migrated and the streams are there.
///
/// Looks at what URLs are given of, and changes nothing. A service's own credentials are good
/// enough.
#[derive(Debug, Args)]
pub(crate) struct Wait {
    #[command(flatten)]
    databases: Databases,
    #[command(flatten)]
    nats: Place,
    #[command(flatten)]
    patience: Patience,
}

impl Wait {
    /// Returns once everything is there.
    ///
    /// # Errors
    /// What is missing still when the time is over.
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let Databases { account_database_url, transaction_database_url } = self.databases;
        let nats = self.nats.address();
        let databases = [
            ("the account database", account_database_url, &*migrate::ACCOUNT),
            ("the transaction database", transaction_database_url, &*migrate::TRANSACTION),
        ];
        ensure!(
            nats.is_some() || databases.iter().any(|(_, url, _)| url.is_some()),
            "nothing to wait for: give at least one URL, such as --nats-url"
        );
        for (name, url, migrations) in databases {
            let Some(url) = url else { continue };
            database::options(&url).context(name)?;
            self.patience.until(name, || migrated(&url, migrations)).await.context(name)?;
            output::line(&format!("{name} is migrated"))?;
        }
        if let Some(address) = nats {
            address.servers()?;
            self.patience.until("NATS", || streams(&address)).await.context("NATS")?;
            output::line("the streams are there")?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn migrated(url: &str, migrations: &Migrator) -> Result<()> {
    let mut connection = database::connect(url).await?;
    let there = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL";
    let begun: bool = sqlx::query_scalar(there).fetch_one(&mut connection).await?;
    ensure!(begun, "it is not migrated yet: `passbook migrate` does that");
    let applied = "SELECT version FROM _sqlx_migrations WHERE success";
    let applied: Vec<i64> = sqlx::query_scalar(applied).fetch_all(&mut connection).await?;
    connection.close().await?;
    for migration in migrations.iter() {
        let (version, what) = (migration.version, &migration.description);
        ensure!(
            applied.contains(&version),
            "{version} {what} is not applied: `passbook migrate` does that"
        );
    }
    Ok(())
}

async fn streams(address: &Address) -> Result<()> {
    let broker = Broker::connect(address).await?;
    for name in MOVEMENT_STREAMS {
        let found = broker.stream(name).await?;
        ensure!(found.is_some(), "the stream {name} is missing: `passbook streams` makes it");
    }
    Ok(())
}
