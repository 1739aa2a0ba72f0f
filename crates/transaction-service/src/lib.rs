//! The ledger: pulls commands, applies each exactly once, and publishes the result.
//!
//! The path of a command: [`worker`] parses it, [`store`] opens a transaction, the
//! crate `ledger` decides, [`store`] commits. Then the worker loop of `runtime`
//! publishes the result and acks the command, in that order.

pub mod store;
pub mod worker;

use std::sync::Arc;

use clap::Parser;
use contract::{
    DEAD_LETTER, MOVEMENT_STREAMS, ReportQueue, TRANSACTION_RESULT, Topology, consumers,
};
use metrics_exporter_prometheus::PrometheusHandle;
use runtime::{
    config::ServiceConfig,
    health::Need,
    http::listener::Listening,
    service::{Identity, Service, until},
    tasks::Tasks,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{store::Ledger, worker::ApplyCommands};

/// The consumers of the work queue.
const QUEUES: [&str; 2] = [consumers::DEPOSIT, consumers::WITHDRAWAL];

/// The transaction-service: pulls deposit and withdrawal commands, applies each exactly once to
/// the ledger, and publishes the results.
#[derive(Debug, Clone, Parser)]
#[command(version)]
pub struct Config {
    #[command(flatten)]
    pub service: ServiceConfig,
}

/// Runs the service until `stop`, then finishes the messages in process.
///
/// # Errors
/// If a setting or a stream is unusable, or a task failed.
pub async fn run(
    config: Config,
    admin: Listening,
    metrics: PrometheusHandle,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let identity = Identity {
        name: "transaction-service",
        broker: Need::Required,
        consumers: vec![
            consumers::DEPOSIT,
            consumers::WITHDRAWAL,
            consumers::COMMANDS_MAX_DELIVERIES,
        ],
        streams: MOVEMENT_STREAMS.to_vec(),
        topology: Topology::leak(ReportQueue::DEFAULT, config.service.nats.stream_storage),
    };
    let mut service = Service::start(identity, &config.service, admin, metrics, &stop).await?;
    service.keep_streams(&[TRANSACTION_RESULT, DEAD_LETTER]);
    service.dead_letter_exhausted(consumers::COMMANDS_MAX_DELIVERIES, &QUEUES)?;

    // The admin port ends after the workers, so that /readyz reports the stop.
    let mut workers = Tasks::new(stop.clone());
    for consumer in QUEUES {
        // Separate caches: withdrawals are refused more often than deposits.
        let handler = Arc::new(ApplyCommands {
            ledger: Ledger::new(service.pool.clone()),
            message_parts: config.service.worker.message_parts,
        });
        for worker in service.workers(consumer, Need::Required, &handler, &stop)? {
            workers.spawn_fallible(consumer, worker);
        }
    }
    let outcome = tokio::select! {
        outcome = workers.watch(stop.cancelled()) => outcome,
        outcome = service.tasks.watch(stop.cancelled()) => outcome,
    };
    let deadline = Instant::now() + config.service.process.grace_period;
    let finished = workers.finish(until(deadline)).await;
    let ended = service.end(deadline).await;
    outcome.and(finished).and(ended)
}
