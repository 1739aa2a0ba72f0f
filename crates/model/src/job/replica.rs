//! The memory of one replica. A crash clears it.

use super::{
    report::ReportId,
    stream::{Message, StoredId},
};

/// An attempt in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Attempt {
    /// The report.
    pub report: ReportId,
    /// The number of the attempt.
    pub number: u8,
    /// Whether its files are stored.
    pub stored: bool,
    /// Whether the worker was frozen until its lease was over.
    pub frozen: bool,
}

/// The progress of a worker with its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// Nothing is done yet, or another report runs.
    Delivered,
    /// No report ran when the worker looked. Occurs only without
    /// [`super::rules::Rule::ClaimUnderLock`].
    Checked,
    /// Makes an attempt.
    Working(Attempt),
    /// The message names no report. Next, its dead letter is published.
    Publish,
    /// Next, the message is acked or termed.
    Acknowledge,
}

/// A message that a worker has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Delivery {
    /// The message.
    pub id: StoredId,
    /// The stream was lost and counts from 1 again.
    pub stale: bool,
    /// The message is acknowledged, and the work goes on. Occurs only without one of
    /// the rules about the order of both.
    pub acknowledged_early: bool,
    /// The progress so far.
    pub phase: Phase,
}

/// The memory of one process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Replica {
    /// The message that the worker has.
    pub delivery: Option<Delivery>,
    /// Messages to publish, of new reports or of the redrive.
    pub outgoing: Vec<Message>,
    /// Reports with a published message and without a row. Occurs only without
    /// [`super::rules::Rule::RowBeforeMessage`].
    pub uncommitted: Vec<ReportId>,
    /// FAILED reports without their alert row. Occurs only without
    /// [`super::rules::Rule::AlertWithFailure`].
    pub alerts: Vec<ReportId>,
}

impl Replica {
    /// The attempt that the worker makes.
    #[must_use]
    pub fn attempt(&self) -> Option<Attempt> {
        match self.delivery?.phase {
            Phase::Working(attempt) => Some(attempt),
            _ => None,
        }
    }

    /// Sorts every list: their order has no meaning.
    pub fn sort(&mut self) {
        self.outgoing.sort_unstable();
        self.uncommitted.sort_unstable();
        self.alerts.sort_unstable();
    }
}
