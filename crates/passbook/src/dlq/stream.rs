//! The stream of dead letters.

use anyhow::{Context, Result};
use async_nats::jetstream::stream::Stream;
use contract::DEAD_LETTER;

use crate::broker::{Address, Broker, StreamReader};

/// Dead letters in memory at once. Each may be as large as the broker's limit for a message.
pub(super) const BATCH: usize = 100;

/// A connection to the stream of dead letters.
pub(super) struct DeadLetterStream {
    pub(super) broker: Broker,
    pub(super) stream: Stream,
}

impl DeadLetterStream {
    /// Connects to the broker. `None` if the stream does not exist.
    ///
    /// # Errors
    /// When no address is given, or the broker can't be reached.
    pub(super) async fn connect(address: Option<Address>) -> Result<Option<Self>> {
        let address = address.context("no NATS URL is given: give --nats-url")?;
        let broker = Broker::connect(&address).await?;
        let stream = broker.stream(DEAD_LETTER).await?;
        Ok(stream.map(|stream| Self { broker, stream }))
    }

    /// Reads the messages on these subjects, up to the last one at the time of [`Self::connect`].
    ///
    /// # Errors
    /// The broker's.
    pub(super) async fn read(&self, subjects: &str) -> Result<StreamReader> {
        let until = self.stream.cached_info().state.last_sequence;
        StreamReader::open(&self.broker, &self.stream, subjects, until, BATCH).await
    }
}
