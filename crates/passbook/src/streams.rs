//! `passbook streams`: creates and updates the streams and consumers of a deployment.
//!
//! The services create missing streams and consumers too. This command creates them before the
//! services start. It alone updates the settings of an existing stream, and reports a difference
//! that no update can repair.

use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use clap::Args;
use contract::Topology;
use runtime::nats::streams::{self, StreamsError};

use crate::{
    arguments::{NatsArguments, ReportQueueArguments, StreamStorageArguments},
    broker::{Address, Broker},
    output,
    retry::Retry,
};

/// Create the streams and consumers, and update those with a different configuration.
///
/// The command can be repeated. It fails and names the field if only deleting and creating a stream
/// or consumer could change it.
#[derive(Debug, Args)]
pub(crate) struct Streams {
    #[command(flatten)]
    nats: NatsArguments,
    /// Replicas of each stream and consumer: 1, or 3 or 5 on a cluster.
    #[arg(long, env = "PASSBOOK_STREAM_REPLICAS", default_value_t = 1,
          value_parser = clap::value_parser!(u8).range(1..=5))]
    stream_replicas: u8,
    #[command(flatten)]
    storage: StreamStorageArguments,
    #[command(flatten)]
    report_queue: ReportQueueArguments,
    #[command(flatten)]
    retry: Retry,
}

/// The result of an attempt; only an unavailable broker is worth another one.
enum Attempt {
    UpToDate,
    /// Only deleting and creating a stream or consumer could resolve the difference.
    Conflict(StreamsError),
}

impl Streams {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let address = self.nats.address().context("no NATS URL is given: give --nats-url")?;
        address.servers()?;
        let topology = self.report_queue.topology(self.storage.stream_storage);
        match self.retry.until_ok("NATS", || self.attempt(&address, topology)).await? {
            Attempt::UpToDate => {
                let (streams, consumers) = (topology.streams.len(), topology.consumers.len());
                output::line(&format!(
                    "{streams} streams and {consumers} consumers are up to date"
                ))?;
                Ok(ExitCode::SUCCESS)
            }
            Attempt::Conflict(error) => Err(error.into()),
        }
    }

    async fn attempt(&self, address: &Address, topology: &Topology) -> Result<Attempt> {
        let broker = Broker::connect(address).await?;
        let all: Vec<_> = topology.streams.iter().collect();
        let consumers: Vec<_> = topology.consumers.iter().collect();
        let ensured = async {
            streams::ensure(&broker.jetstream, &all, &consumers, self.stream_replicas).await?;
            streams::mend(&broker.jetstream, &all, self.stream_replicas).await
        };
        match ensured.await {
            Ok(()) => Ok(Attempt::UpToDate),
            Err(StreamsError::Unavailable(error)) => Err(anyhow!(error)),
            Err(error) => Ok(Attempt::Conflict(error)),
        }
    }
}
