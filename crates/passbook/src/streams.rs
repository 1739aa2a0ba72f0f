//! `passbook streams`: the broker's part of a deployment. Services make what is
//! missing by themselves; this makes it before they start, and tells of a
//! difference that only a deletion could mend in one place.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use contract::{CONSUMERS, STREAMS};
use runtime::nats::streams::{self, StreamsError};

use crate::{
    broker::{Address, Broker, Place},
    output,
    patience::Patience,
};

/// Make the streams and consumers, and set right what has drifted.
///
/// Can be repeated. Fails, and names the field, where only a deletion could mend a difference.
#[derive(Debug, Args)]
pub(crate) struct Streams {
    #[command(flatten)]
    nats: Place,
    /// Copies of each stream and consumer that the broker keeps: 1, or 3 or 5 on a cluster.
    #[arg(long, env = "PASSBOOK_STREAM_REPLICAS", default_value_t = 1,
          value_parser = clap::value_parser!(u8).range(1..=5))]
    stream_replicas: u8,
    #[command(flatten)]
    patience: Patience,
}

impl Streams {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let address = self.nats.address().context("no NATS URL is given: --nats-url")?;
        address.servers()?;
        // A difference stays one: only what is away is waited for.
        let made = self.patience.until("NATS", || self.make(&address)).await??;
        output::line(&made)?;
        Ok(ExitCode::SUCCESS)
    }

    async fn make(&self, address: &Address) -> Result<Result<String, StreamsError>> {
        let broker = Broker::connect(address).await?;
        let (all, consumers) =
            (STREAMS.iter().collect::<Vec<_>>(), CONSUMERS.iter().collect::<Vec<_>>());
        match streams::ensure(&broker.jetstream, &all, &consumers, self.stream_replicas).await {
            Err(StreamsError::Unavailable(error)) => Err(anyhow::anyhow!(error)),
            outcome => Ok(outcome.map(|()| {
                format!(
                    "{} streams and {} consumers are as they should be",
                    all.len(),
                    consumers.len()
                )
            })),
        }
    }
}
