//! `passbook dlq`: dead letters, the messages that could not be processed, and
//! what people do about them.
//!
//! A letter is open while it lies on `dead-letter.<stream>.<consumer>`. Who
//! redrives or discards it first writes so on a subject that only this letter
//! has ([`closing`]), then does it, then removes the letter: whoever is
//! interrupted in between runs the same command again.

mod books;
mod closing;
mod discard;
mod letter;
mod listing;
mod ls;
mod prospect;
mod redrive;
mod select;
mod show;

use std::process::ExitCode;

use anyhow::{Context, Result};
use async_nats::jetstream::stream::Stream;
use clap::Subcommand;
use contract::DEAD_LETTER;

pub(crate) use letter::{closed_subjects, open_subjects};

use crate::broker::{Address, Broker, Walk};

/// Letters in memory at once: each may be as large as the broker takes.
const AT_ONCE: usize = 100;

/// Deal with dead letters: messages that could not be processed.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Ls(ls::Ls),
    Show(show::Show),
    Redrive(redrive::Redrive),
    Discard(discard::Discard),
}

impl Command {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        match self {
            Self::Ls(ls) => ls.run().await,
            Self::Show(show) => show.run().await,
            Self::Redrive(redrive) => redrive.run().await,
            Self::Discard(discard) => discard.run().await,
        }
    }
}

/// Where the letters are.
struct DeadLetters {
    broker: Broker,
    stream: Stream,
}

impl DeadLetters {
    /// `None` where nobody has made the stream yet.
    async fn at(address: Option<Address>) -> Result<Option<Self>> {
        let address = address.context("no NATS URL is given: --nats-url")?;
        let broker = Broker::connect(&address).await?;
        let stream = broker.stream(DEAD_LETTER).await?;
        Ok(stream.map(|stream| Self { broker, stream }))
    }

    /// A walk over those on these subjects that were there when the command began: what comes
    /// later is not meant.
    async fn walk(&self, subjects: &str) -> Result<Walk> {
        let until = self.stream.cached_info().state.last_sequence;
        Walk::begin(&self.broker, &self.stream, subjects, until, AT_ONCE).await
    }
}
