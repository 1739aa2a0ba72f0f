//! The plan of an experiment: which disruption begins when. It is drawn from a
//! seed, so that the same plan can be drawn again.

use std::{fmt, time::Duration};

use devstack::Fault;

use super::draw;

/// One disruption of a running system.
#[derive(Debug, Clone)]
pub struct Disruption {
    /// When it begins, counted from the start of the experiment.
    pub at: Duration,
    pub action: Action,
    /// How long it lasts; `None` for an action without an end, such as a kill.
    pub duration: Option<Duration>,
}

#[derive(Debug, Clone)]
pub enum Action {
    /// A fault of all processes or links with a name that matches `target`, and the fault that
    /// undoes it.
    Fault {
        target: String,
        fault: Fault,
        undo: Option<Fault>,
    },
    DeleteStream(&'static str),
    PurgeStream(&'static str),
    /// Stream and consumer.
    DeleteConsumer(&'static str, &'static str),
    /// The leader of a stream steps down.
    StepDown(&'static str),
    /// All free connections of PostgreSQL are taken, then those of the services are cut.
    ExhaustConnections,
    /// Another transaction holds the rows of this many accounts, in each of these databases.
    HoldRows(&'static [&'static str], u8),
    /// New sessions of these databases are read-only, and stay so until they are closed.
    ReadOnly(&'static [&'static str]),
    /// Commits wait for a synchronous standby that is away.
    AwaitStandby,
    /// Maximum bytes of a stream.
    LimitStream(&'static str, i64),
    /// Maximum bytes of a stream's messages.
    LimitMessages(&'static str, i32),
    /// The store of the broker is copied. At the end, the broker continues with the copy.
    RestoreStore,
    /// The clock of [`Experiment::clock_of`] is wrong by this offset.
    SetClock(&'static str),
    /// This many invalid messages are published.
    PublishPoison(u16),
    /// This many invalid messages of nearly the maximum size are published.
    PublishLargePoison(u16),
    /// This many messages with ids of 65 kB are published: half of them invalid, the others
    /// commands again.
    PublishLongIds(u16),
    /// This many results are published without a decision of the ledger, one or several a message.
    PublishForgedResults(u16),
    /// This many commands are published again, one or several a message.
    RepeatCommands(u16),
}

/// An experiment: its disruptions and the load meanwhile.
#[derive(Debug, Clone)]
pub struct Experiment {
    /// The title of its report.
    pub name: String,
    pub disruptions: Vec<Disruption>,
    pub clients: usize,
    /// Whether the broker is a cluster of three nodes.
    pub cluster: bool,
    /// Maximum commands or results of the services' messages.
    pub message_parts: u8,
    /// The programs with a clock that can be wrong, separated by commas.
    pub clock_of: &'static str,
}

impl Experiment {
    /// Draws the disruptions of `length` from a seed.
    #[must_use]
    pub fn from_seed(seed: u64, length: Duration, clients: usize, cluster: bool) -> Self {
        const PARTS: [u8; 6] = [100, 1, 7, 33, 2, 50];
        const CLOCKS: [&str; 3] =
            ["account-service", "transaction-service", "account-service,transaction-service"];
        let (name, disruptions) = (format!("seed {seed}"), draw::plan(seed, length, cluster));
        // Not drawn: another draw would change the disruptions of every seed.
        let at = |count: u64| usize::try_from(seed % count).unwrap_or_default();
        let (message_parts, clock_of) = (PARTS[at(6)], CLOCKS[at(3)]);
        Self { name, disruptions, clients, cluster, message_parts, clock_of }
    }

    /// The offsets of clocks.
    fn offsets(&self) -> impl Iterator<Item = &str> {
        self.disruptions.iter().filter_map(|disruption| match disruption.action {
            Action::SetClock(offset) => Some(offset),
            _ => None,
        })
    }

    pub(super) fn sets_clock(&self) -> bool {
        self.offsets().next().is_some()
    }

    /// Whether a clock is ahead for a while, so that rows are dated in the future.
    pub(super) fn dates_in_the_future(&self) -> bool {
        self.offsets().any(|offset| offset.starts_with('+'))
    }
}

impl fmt::Display for Disruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.action {
            Action::Fault { target, fault, .. } => {
                write!(f, "{} {target}", format!("{fault:?}").to_lowercase())?;
            }
            Action::DeleteStream(stream) => write!(f, "delete stream {stream}")?,
            Action::PurgeStream(stream) => write!(f, "purge stream {stream}")?,
            Action::DeleteConsumer(_, consumer) => write!(f, "delete consumer {consumer}")?,
            Action::StepDown(stream) => write!(f, "step down leader of {stream}")?,
            Action::ExhaustConnections => write!(f, "exhaust the connections of postgres")?,
            Action::HoldRows(databases, count) => {
                write!(f, "hold the rows of {count} accounts in {}", databases.join(" and "))?;
            }
            Action::ReadOnly(databases) => write!(f, "read-only {}", databases.join(" and "))?,
            Action::AwaitStandby => write!(f, "await an absent standby")?,
            Action::LimitStream(stream, bytes) => write!(f, "limit {stream} to {bytes} bytes")?,
            Action::LimitMessages(stream, bytes) => {
                write!(f, "limit messages of {stream} to {bytes} bytes")?;
            }
            Action::RestoreStore => write!(f, "restore the broker's store as it is now")?,
            Action::SetClock(offset) => write!(f, "clock {offset}")?,
            Action::PublishPoison(count) => write!(f, "publish {count} poison messages")?,
            Action::PublishLargePoison(count) => {
                write!(f, "publish {count} large poison messages")?
            }
            Action::PublishLongIds(count) => write!(f, "publish {count} messages with long ids")?,
            Action::PublishForgedResults(count) => write!(f, "publish {count} forged results")?,
            Action::RepeatCommands(count) => write!(f, "publish {count} commands again")?,
        }
        match self.duration {
            Some(duration) => write!(f, " for {:.1} s", duration.as_secs_f64()),
            None => Ok(()),
        }
    }
}
