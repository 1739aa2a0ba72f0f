//! The common parts of a running service: its database, the broker, the admin port,
//! its health, and the tasks that watch them.

use std::{future::Future, sync::Arc, time::Duration};

use crate::postgres::PgPool;
use anyhow::Context;
use async_nats::{Client, jetstream};
use contract::{ConsumerSpec, StreamSpec, Topology};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    clock,
    config::ServiceConfig,
    failpoint,
    health::{self, Health, Need},
    http::{admin, bearer::TokenVerifier, listener::Listening},
    nats::{broker_metrics, connection, max_payload, streams},
    postgres::{self, DatabaseConfig},
    tasks::Tasks,
    telemetry::{
        metrics::{describe, upkeep},
        otlp::Export,
    },
    worker::{
        BatchProcessor, DeadLetterAll, Exhausted, Fetch, Handler, JobHandler, JobProcessor,
        MaxDeliveries, PullLoop, UnstoredLetters, WorkQueue,
    },
};

/// How long a fetch of a batch waits for a first message.
const FETCH_WAIT: Duration = Duration::from_secs(1);

/// A service's name and dependencies.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The service's name in the database and the broker.
    pub name: &'static str,
    /// Whether the service is ready without the broker.
    pub broker: Need,
    /// Its consumers.
    pub consumers: Vec<&'static str>,
    /// The streams behind its work, for the metrics.
    pub streams: Vec<&'static str>,
    /// Every stream and consumer of the system.
    pub topology: &'static Topology,
}

/// The common parts of a running service.
#[derive(Debug)]
pub struct Service {
    pub pool: PgPool,
    pub client: Client,
    pub jetstream: jetstream::Context,
    pub health: Health,
    /// Tasks that run until [`Service::end`].
    pub tasks: Tasks,
    /// Cancelled by [`Service::end`].
    pub finished: CancellationToken,
    config: ServiceConfig,
    topology: &'static Topology,
    unstored: Arc<UnstoredLetters>,
    spans: Export,
}

/// The parts of a service that has no broker: the database, the admin port, and the tasks that
/// watch them.
#[derive(Debug)]
pub struct Base {
    pub pool: PgPool,
    pub health: Health,
    pub tasks: Tasks,
    /// Cancelled by the end of the tasks.
    pub finished: CancellationToken,
}

impl Base {
    /// Starts the admin port. The database may still be unreachable.
    ///
    /// # Errors
    /// If the configuration is invalid.
    pub fn start(
        name: &'static str,
        database: &DatabaseConfig,
        admin: Listening,
        metrics: PrometheusHandle,
        stop: &CancellationToken,
    ) -> anyhow::Result<Self> {
        failpoint::warn_if_armable();
        describe();
        clock::describe();
        metrics::gauge!("passbook_build_info",
            "service" => name, "version" => env!("CARGO_PKG_VERSION"))
        .set(1);
        let health = Health::default();
        health.expect("postgres", Need::Required);
        health.expect(clock::CONDITION, Need::Degraded);
        let pool = postgres::pool(database, name)?;
        let finished = CancellationToken::new();
        let mut tasks = Tasks::new(finished.clone());
        let admin_port = admin::serve(
            admin,
            health.clone(),
            metrics.clone(),
            pool.clone(),
            stop.clone(),
            finished.clone(),
        );
        tasks.spawn_fallible("admin port", admin_port);
        tasks.spawn("metrics upkeep", upkeep(metrics, finished.clone()));
        let watch = health::watch_postgres(health.clone(), pool.clone(), finished.clone());
        tasks.spawn("postgres watch", watch);
        let watch = clock::watch(health.clone(), pool.clone(), finished.clone());
        tasks.spawn("clock watch", watch);
        Ok(Self { pool, health, tasks, finished })
    }
}

impl Service {
    /// Starts the admin port and the connections. The database and the broker may
    /// still be unreachable.
    ///
    /// # Errors
    /// If the configuration is invalid.
    pub async fn start(
        identity: Identity,
        config: &ServiceConfig,
        admin: Listening,
        metrics: PrometheusHandle,
        stop: &CancellationToken,
    ) -> anyhow::Result<Self> {
        broker_metrics::describe();
        let spans = Export::start(&config.traces, identity.name)?;
        let database = &config.database;
        let base = Base::start(identity.name, database, admin, metrics, stop)?;
        let Base { pool, health, mut tasks, finished } = base;
        health.expect("nats", identity.broker);
        health.expect(broker_metrics::CONDITION, Need::Degraded);
        health.expect(max_payload::CONDITION, Need::Degraded);
        let client = connection::connect(&config.nats, identity.name).await?;
        let watch = health::watch_nats(health.clone(), client.clone(), finished.clone());
        tasks.spawn_fallible("nats watch", watch);
        let watch = max_payload::watch(health.clone(), client.clone(), finished.clone());
        tasks.spawn("max payload watch", watch);
        let jetstream = connection::jetstream(&client);
        let topology = identity.topology;
        let consumers = identity.consumers.iter().map(|name| named(topology, name));
        let consumers = consumers.collect::<anyhow::Result<_>>()?;
        let watch = broker_metrics::watch(
            client.clone(),
            jetstream.clone(),
            consumers,
            identity.streams,
            health.clone(),
            finished.clone(),
        );
        tasks.spawn("broker metrics", watch);
        let unstored = Arc::new(UnstoredLetters::new(health.clone()));
        let publish = Arc::clone(&unstored).run(jetstream.clone(), finished.clone());
        tasks.spawn("unstored dead letters", publish);
        let config = config.clone();
        Ok(Self {
            pool,
            client,
            jetstream,
            health,
            tasks,
            finished,
            config,
            topology,
            unstored,
            spans,
        })
    }

    /// Creates and checks the streams that the service writes to. The workers do the
    /// same for the streams that they read.
    pub fn keep_streams(&mut self, names: &[&str]) {
        let streams = names.iter().filter_map(|name| self.topology.stream(name)).collect();
        let replicas = self.config.nats.stream_replicas;
        let keep = streams::keep(self.jetstream.clone(), streams, replicas, self.finished.clone());
        self.tasks.spawn_fallible("streams", keep);
    }

    /// Keeps the keys of tokens current. Without any, the process is not ready.
    pub fn keep_token_keys(&mut self, verifier: &TokenVerifier) {
        verifier.expect_keys(&self.health);
        let keep = verifier.clone().keep_keys(self.health.clone(), self.finished.clone());
        self.tasks.spawn("token keys", keep);
    }

    /// The workers of a consumer, in the configured number, for the caller to spawn.
    ///
    /// # Errors
    /// If the contract has no consumer of this name.
    pub fn workers<H: Handler>(
        &self,
        consumer: &str,
        need: Need,
        handler: &Arc<H>,
        stop: &CancellationToken,
    ) -> anyhow::Result<Vec<impl Future<Output = anyhow::Result<()>> + Send + use<H>>> {
        let (stream, consumer) = self.queue(consumer)?;
        self.health.expect(consumer.name, need);
        let worker = |_| {
            let fetch = Fetch { max_messages: self.config.worker.worker_batch, wait: FETCH_WAIT };
            let (client, jetstream) = (self.client.clone(), self.jetstream.clone());
            let (handler, unstored) = (Arc::clone(handler), Arc::clone(&self.unstored));
            let processor = BatchProcessor::new(client, jetstream, consumer, handler, unstored);
            self.pull_loop((stream, consumer), fetch).run(processor, stop.clone())
        };
        Ok((0..self.config.worker.workers).map(worker).collect())
    }

    /// The worker of long jobs: one message at a time, each fetch waits for `wait`.
    ///
    /// # Errors
    /// If the contract has no consumer of this name.
    pub fn job_worker<H: JobHandler>(
        &self,
        consumer: &str,
        need: Need,
        wait: Duration,
        handler: &Arc<H>,
        stop: &CancellationToken,
    ) -> anyhow::Result<impl Future<Output = anyhow::Result<()>> + Send + use<H>> {
        let (stream, consumer) = self.queue(consumer)?;
        self.health.expect(consumer.name, need);
        let (client, jetstream) = (self.client.clone(), self.jetstream.clone());
        let processor = JobProcessor::new(client, jetstream, consumer, Arc::clone(handler));
        let fetch = Fetch { max_messages: 1, wait };
        Ok(self.pull_loop((stream, consumer), fetch).run(processor, stop.clone()))
    }

    /// A consumer and its stream.
    fn queue(&self, consumer: &str) -> anyhow::Result<Queue> {
        let consumer = named(self.topology, consumer)?;
        let stream = self.topology.stream(consumer.stream);
        Ok((stream.context("the contract has no such stream")?, consumer))
    }

    fn pull_loop(&self, (stream, consumer): Queue, fetch: Fetch) -> PullLoop {
        PullLoop {
            client: self.client.clone(),
            jetstream: self.jetstream.clone(),
            consumer,
            stream,
            stream_replicas: self.config.nats.stream_replicas,
            fetch,
            health: self.health.clone(),
        }
    }

    /// Dead-letters this service's messages that reached `max_deliver`. The consumer
    /// `consumer` reads the advisories about them. A sweep for each consumer in
    /// `queues` finds the messages in its work queue whose advisory was lost.
    ///
    /// # Errors
    /// If the contract has no consumer of this name.
    pub fn dead_letter_exhausted(
        &mut self,
        consumer: &'static str,
        queues: &[&str],
    ) -> anyhow::Result<()> {
        self.settle_exhausted(consumer, queues, &Arc::new(DeadLetterAll))
    }

    /// As [`Service::dead_letter_exhausted`], but `exhausted` decides about each
    /// message.
    ///
    /// # Errors
    /// If the contract has no consumer of this name.
    pub fn settle_exhausted<E: Exhausted>(
        &mut self,
        consumer: &'static str,
        queues: &[&str],
        exhausted: &Arc<E>,
    ) -> anyhow::Result<()> {
        let (client, jetstream) = (self.client.clone(), self.jetstream.clone());
        let exhausted = Arc::clone(exhausted);
        let handler = Arc::new(MaxDeliveries {
            client,
            jetstream,
            topology: self.topology,
            exhausted: Arc::clone(&exhausted),
        });
        let workers = self.workers(consumer, Need::Degraded, &handler, &self.finished)?;
        // Advisories are rare: one worker is enough.
        for worker in workers.into_iter().take(1) {
            self.tasks.spawn_fallible(consumer, worker);
        }
        for name in queues {
            let queue = self.work_queue(name, &exhausted)?;
            self.tasks.spawn("sweep", queue.sweep(self.finished.clone()));
        }
        Ok(())
    }

    /// The work queue of the consumer with this name. `exhausted` decides about messages that no
    /// worker settles any more.
    ///
    /// # Errors
    /// If the contract has no consumer of this name.
    pub fn work_queue<E: Exhausted>(
        &self,
        consumer: &str,
        exhausted: &Arc<E>,
    ) -> anyhow::Result<WorkQueue<E>> {
        let (stream, consumer) = self.queue(consumer)?;
        let (client, jetstream) = (self.client.clone(), self.jetstream.clone());
        Ok(WorkQueue { client, jetstream, stream, consumer, exhausted: Arc::clone(exhausted) })
    }

    /// Stops the tasks, waits for them until `deadline`, then closes the connections.
    ///
    /// # Errors
    /// If a task failed or did not end in time.
    pub async fn end(self, deadline: Instant) -> anyhow::Result<()> {
        let ended = self.tasks.finish(until(deadline)).await;
        // This sends the acks of the last batch.
        connection::flush(&self.client).await;
        postgres::close(&self.pool).await;
        self.spans.end(until(deadline)).await;
        ended
    }
}

/// A consumer and its stream.
type Queue = (&'static StreamSpec, &'static ConsumerSpec);

fn named(topology: &'static Topology, consumer: &str) -> anyhow::Result<&'static ConsumerSpec> {
    topology.consumer(consumer).with_context(|| format!("the contract has no consumer {consumer}"))
}

/// The time left until `deadline`.
#[must_use]
pub fn until(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}
