//! The ledger. Pulls commands, applies each exactly once, sends the result.
//!
//! A command's way: [`worker`] reads it, [`store`] opens the transaction,
//! [`ledger`] decides, [`store`] commits, and the worker loop of `runtime`
//! publishes the result and acks the command, in that order.

pub mod ledger;
pub mod store;
pub mod worker;

use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use contract::{ConsumerSpec, DEAD_LETTER, TRANSACTION_RESULT, consumers};
use metrics_exporter_prometheus::PrometheusHandle;
use runtime::{
    admin,
    config::{DatabaseConfig, NatsConfig, ProcessConfig, WorkerConfig},
    health::{self, Health, Need},
    nats, postgres, streams,
    tasks::Tasks,
    telemetry,
    worker::Worker,
};
use tokio::{net::TcpListener, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::worker::ApplyCommands;

/// The transaction-service: pulls deposit and withdrawal commands, applies each exactly once to
/// the ledger, and publishes the results.
#[derive(Debug, Clone, Parser)]
#[command(version)]
pub struct Config {
    /// What any process has.
    #[command(flatten)]
    pub process: ProcessConfig,
    /// The ledger's database.
    #[command(flatten)]
    pub database: DatabaseConfig,
    /// The broker.
    #[command(flatten)]
    pub nats: NatsConfig,
    /// The loop that pulls commands.
    #[command(flatten)]
    pub worker: WorkerConfig,
}

impl Config {
    /// Finds what can't be used, before a port is bound.
    ///
    /// # Errors
    /// Names the setting.
    pub fn check(&self) -> anyhow::Result<()> {
        postgres::options(&self.database)?;
        nats::servers(&self.nats)?;
        Ok(())
    }
}

/// Runs the service until `stop`, then finishes what is in hand.
///
/// # Errors
/// If something it stands on can't be used at all, or a task failed.
pub async fn run(
    config: Config,
    admin_listener: TcpListener,
    metrics: PrometheusHandle,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let health = Health::default();
    health.expect("postgres", Need::Required);
    health.expect("nats", Need::Required);
    let pool = postgres::pool(&config.database, "transaction-service")?;
    let client = nats::connect(&config.nats, "transaction-service", "_INBOX_transaction").await?;
    let jetstream = nats::jetstream(&client);

    // The admin port outlives the workers: it tells of the stop while it lasts.
    let finished = CancellationToken::new();
    let mut tasks = Tasks::new(finished.clone());
    tasks.spawn(
        "admin port",
        admin::serve(
            admin_listener,
            health.clone(),
            metrics.clone(),
            stop.clone(),
            finished.clone(),
        ),
    );
    tasks.spawn(
        "postgres watch",
        health::watch_postgres(health.clone(), pool.clone(), finished.clone()),
    );
    tasks.spawn("metrics upkeep", telemetry::upkeep(metrics, finished.clone()));
    tasks.spawn("nats watch", health::watch_nats(health.clone(), client.clone(), finished.clone()));

    let mut workers = Tasks::new(stop.clone());
    let handler = Arc::new(ApplyCommands { pool: pool.clone() });
    let replicas = config.nats.stream_replicas;
    let others = &[TRANSACTION_RESULT, DEAD_LETTER];
    workers.spawn("streams", streams::keep(jetstream.clone(), others, replicas, stop.clone()));
    for name in [consumers::DEPOSIT, consumers::WITHDRAWAL] {
        let consumer = ConsumerSpec::named(name).context("a consumer of the contract's table")?;
        health.expect(consumer.name, Need::Required);
        for _ in 0..config.worker.workers {
            let worker = Worker {
                client: client.clone(),
                jetstream: jetstream.clone(),
                consumer,
                stream_replicas: replicas,
                config: config.worker.clone(),
                health: health.clone(),
                handler: Arc::clone(&handler),
            };
            workers.spawn(consumer.name, worker.run(stop.clone()));
        }
    }
    let outcome = tokio::select! {
        outcome = workers.watch(stop.cancelled()) => outcome,
        outcome = tasks.watch(stop.cancelled()) => outcome,
    };
    let deadline = Instant::now() + config.process.grace_period;
    let left = || deadline.saturating_duration_since(Instant::now());
    let worked = workers.finish(left()).await;
    nats::flush(&client).await;
    let ended = tasks.finish(left()).await;
    postgres::close(&pool).await;
    outcome.and(worked).and(ended)
}
