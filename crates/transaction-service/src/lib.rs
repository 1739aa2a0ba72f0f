//! The ledger. Pulls commands, applies each exactly once, sends the result.
//!
//! A command's way: [`worker`] reads it, [`store`] opens the transaction,
//! [`ledger`] decides, [`store`] commits, and the worker loop of `runtime`
//! publishes the result and acks the command, in that order.

pub mod ledger;
pub mod store;
pub mod worker;

use std::sync::Arc;

use clap::Parser;
use contract::{DEAD_LETTER, TRANSACTION_RESULT, consumers};
use metrics_exporter_prometheus::PrometheusHandle;
use runtime::{
    config::ServiceConfig,
    health::Need,
    service::{Identity, Service, until},
    tasks::Tasks,
};
use tokio::{net::TcpListener, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{store::Ledger, worker::ApplyCommands};

/// The consumers of the work queue that this service works off.
const QUEUES: [&str; 2] = [consumers::DEPOSIT, consumers::WITHDRAWAL];

/// The transaction-service: pulls deposit and withdrawal commands, applies each exactly once to
/// the ledger, and publishes the results.
#[derive(Debug, Clone, Parser)]
#[command(version)]
pub struct Config {
    /// What any service has.
    #[command(flatten)]
    pub service: ServiceConfig,
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
    let identity = Identity {
        name: "transaction-service",
        broker: Need::Required,
        consumers: &[consumers::DEPOSIT, consumers::WITHDRAWAL, consumers::COMMANDS_USED_UP],
    };
    let mut service =
        Service::start(identity, &config.service, admin_listener, metrics, &stop).await?;
    service.keep_streams(&[TRANSACTION_RESULT, DEAD_LETTER]);
    service.work_off_used_up(consumers::COMMANDS_USED_UP, &QUEUES)?;

    // The admin port outlives the workers: it tells of the stop while it lasts.
    let mut workers = Tasks::new(stop.clone());
    for consumer in QUEUES {
        // One each: withdrawals are refused more often than deposits.
        let handler = Arc::new(ApplyCommands { ledger: Ledger::new(service.pool.clone()) });
        for worker in service.workers(consumer, Need::Required, &handler)? {
            workers.spawn(consumer, worker.run(stop.clone()));
        }
    }
    let outcome = tokio::select! {
        outcome = workers.watch(stop.cancelled()) => outcome,
        outcome = service.tasks.watch(stop.cancelled()) => outcome,
    };
    let deadline = Instant::now() + config.service.process.grace_period;
    let worked = workers.finish(until(deadline)).await;
    let ended = service.end(deadline).await;
    outcome.and(worked).and(ended)
}
