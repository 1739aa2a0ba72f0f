//! What a service stands on while it runs: its database, the broker, its admin
//! port, its health, and the tasks that look after them.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use async_nats::{Client, jetstream};
use contract::ConsumerSpec;
use metrics_exporter_prometheus::PrometheusHandle;
use sqlx::PgPool;
use tokio::{net::TcpListener, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    admin, backlog,
    config::ServiceConfig,
    crash, export,
    export::Exporter,
    health::{self, Health, Need},
    nats, postgres, streams,
    tasks::Tasks,
    telemetry,
    worker::{self, Handler, UsedUp, Worker},
};

/// A service's name and what it can't be without.
#[derive(Debug, Clone, Copy)]
pub struct Identity {
    /// How it calls itself to the database and the broker.
    pub name: &'static str,
    /// Whether it can serve without the broker.
    pub broker: Need,
    /// The consumers that it reads through.
    pub consumers: &'static [&'static str],
}

/// A running service, less what is its own.
#[derive(Debug)]
pub struct Service {
    /// Its database.
    pub pool: PgPool,
    /// The connection to the broker.
    pub client: Client,
    /// Streams of the broker.
    pub jetstream: jetstream::Context,
    /// What it says of itself.
    pub health: Health,
    /// Its tasks. They run until [`Service::end`].
    pub tasks: Tasks,
    /// Cancelled by [`Service::end`].
    pub finished: CancellationToken,
    config: ServiceConfig,
    /// Sends spans, until all else has ended.
    exporter: Option<JoinHandle<()>>,
    ended: CancellationToken,
}

impl Service {
    /// Starts the admin port and the connections. Neither the database nor the
    /// broker has to be there yet.
    ///
    /// # Errors
    /// If the configuration can't be used.
    pub async fn start(
        identity: Identity,
        config: &ServiceConfig,
        admin_listener: TcpListener,
        metrics: PrometheusHandle,
        stop: &CancellationToken,
    ) -> anyhow::Result<Self> {
        crash::warn();
        telemetry::describe();
        metrics::gauge!("passbook_build_info",
            "service" => identity.name, "version" => env!("CARGO_PKG_VERSION"))
        .set(1);
        let ended = CancellationToken::new();
        let exporter = Exporter::start(&config.traces, identity.name)?;
        let exporter = exporter.map(|it| tokio::spawn(it.run(ended.clone())));
        let health = Health::default();
        health.expect("postgres", Need::Required);
        health.expect("nats", identity.broker);
        let pool = postgres::pool(&config.database, identity.name)?;
        let client = nats::connect(&config.nats, identity.name).await?;
        let finished = CancellationToken::new();
        let mut tasks = Tasks::new(finished.clone());
        let admin = admin::serve(
            admin_listener,
            health.clone(),
            metrics.clone(),
            pool.clone(),
            stop.clone(),
            finished.clone(),
        );
        tasks.spawn("admin port", admin);
        tasks.spawn("metrics upkeep", telemetry::upkeep(metrics, finished.clone()));
        let watch = health::watch_postgres(health.clone(), pool.clone(), finished.clone());
        tasks.spawn("postgres watch", watch);
        let watch = health::watch_nats(health.clone(), client.clone(), finished.clone());
        tasks.spawn("nats watch", watch);
        let jetstream = nats::jetstream(&client);
        let consumers = identity.consumers.iter().map(|name| named(name));
        let consumers = consumers.collect::<anyhow::Result<_>>()?;
        let watch = backlog::watch(client.clone(), jetstream.clone(), consumers, finished.clone());
        tasks.spawn("backlog watch", watch);
        let config = config.clone();
        Ok(Self { pool, client, jetstream, health, tasks, finished, config, exporter, ended })
    }

    /// Looks after streams that the service only writes to.
    pub fn keep_streams(&mut self, names: &'static [&'static str]) {
        let replicas = self.config.nats.stream_replicas;
        let keep = streams::keep(self.jetstream.clone(), names, replicas, self.finished.clone());
        self.tasks.spawn("streams", keep);
    }

    /// The workers of a consumer, as many as are configured, to be run.
    ///
    /// # Errors
    /// If the contract has no consumer of this name.
    pub fn workers<H: Handler>(
        &self,
        consumer: &str,
        need: Need,
        handler: &Arc<H>,
    ) -> anyhow::Result<Vec<Worker<H>>> {
        let consumer = named(consumer)?;
        self.health.expect(consumer.name, need);
        let worker = |_| Worker {
            client: self.client.clone(),
            jetstream: self.jetstream.clone(),
            consumer,
            stream_replicas: self.config.nats.stream_replicas,
            config: self.config.worker.clone(),
            health: self.health.clone(),
            handler: Arc::clone(handler),
        };
        Ok((0..self.config.worker.workers).map(worker).collect())
    }

    /// Works off the advisories about messages of this service whose
    /// deliveries are used up, and looks into its work queues for messages
    /// whose advisory was lost.
    ///
    /// # Errors
    /// If the contract has no consumer of this name.
    pub fn work_off_used_up(
        &mut self,
        consumer: &'static str,
        queues: &[&'static str],
    ) -> anyhow::Result<()> {
        let (client, jetstream) = (self.client.clone(), self.jetstream.clone());
        let handler = Arc::new(UsedUp { client, jetstream });
        for worker in self.workers(consumer, Need::Degraded, &handler)?.into_iter().take(1) {
            self.tasks.spawn(consumer, worker.run(self.finished.clone()));
        }
        for consumer in queues.iter().map(|name| named(name)).collect::<Result<Vec<_>, _>>()? {
            let (client, jetstream) = (self.client.clone(), self.jetstream.clone());
            let sweep = worker::sweep(client, jetstream, consumer, self.finished.clone());
            self.tasks.spawn("sweep", sweep);
        }
        Ok(())
    }

    /// Ends the tasks, until `deadline`, and says goodbye to everybody.
    ///
    /// # Errors
    /// If a task failed or did not end in time.
    pub async fn end(self, deadline: Instant) -> anyhow::Result<()> {
        let ended = self.tasks.finish(until(deadline)).await;
        // Above all the acks of the last batch.
        nats::flush(&self.client).await;
        postgres::close(&self.pool).await;
        if let Some(exporter) = self.exporter {
            self.ended.cancel();
            let within = until(deadline).min(export::LAST_BATCHES);
            if !matches!(tokio::time::timeout(within, exporter).await, Ok(Ok(()))) {
                tracing::warn!("the last spans were not exported");
            }
        }
        ended
    }
}

fn named(consumer: &str) -> anyhow::Result<&'static ConsumerSpec> {
    ConsumerSpec::named(consumer).context("a consumer of the contract")
}

/// The time that is left.
#[must_use]
pub fn until(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}
