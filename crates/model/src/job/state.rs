//! A state of the whole system: the database, the storage, the broker, and the memory
//! of every replica. Lists without a meaningful order are kept sorted, and so are the
//! replicas.

use super::{
    replica::{Attempt, Delivery, Replica},
    report::{File, Report, ReportId, Status},
    scenario::Faults,
    stream::{Message, StoredId, StoredMessage, Stream},
};

/// The history of the stray message. No process can see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stray {
    /// Not published yet.
    Unsent,
    /// Stored in the stream.
    Sent,
    /// Lost by the broker.
    Lost,
}

/// A state of the system.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    /// The rows, in the order of asking.
    pub reports: Vec<Report>,
    /// The storage.
    pub files: Vec<File>,
    /// The stream `job`.
    pub stream: Stream,
    /// The dead letters of messages. Those of reports are in [`Report::alert`].
    pub dead_letters: Vec<StoredId>,
    /// Published messages that have not reached the broker, and may never do so.
    pub in_flight: Vec<Message>,
    /// The replicas.
    pub replicas: Vec<Replica>,
    /// The faults that may still happen.
    pub remaining: Faults,
    /// The stray message.
    pub stray: Stray,
    /// Whether a report has left an end state, or changed its registered files.
    pub end_changed: bool,
    /// Whether a report was claimed while an older one was due.
    pub order_broken: bool,
}

impl State {
    /// The row of this report.
    #[must_use]
    pub fn report(&self, id: ReportId) -> Option<Report> {
        self.reports.get(usize::from(id.0)).copied()
    }

    /// The row of this report, for changes.
    pub fn report_mut(&mut self, id: ReportId) -> Option<&mut Report> {
        self.reports.get_mut(usize::from(id.0))
    }

    /// Writes the row of this report. Takes notes for the invariants.
    pub fn write(&mut self, id: ReportId, new: Report) -> Option<()> {
        let row = self.report_mut(id)?;
        let changed =
            row.status.is_end() && (row.status != new.status || row.registered != new.registered);
        *row = new;
        self.end_changed |= changed;
        Some(())
    }

    /// The message that a replica has.
    #[must_use]
    pub fn delivery(&self, replica: usize) -> Option<Delivery> {
        self.replicas.get(replica)?.delivery
    }

    /// The message that a replica has, for changes.
    pub fn delivery_mut(&mut self, replica: usize) -> Option<&mut Delivery> {
        self.replicas.get_mut(replica)?.delivery.as_mut()
    }

    /// The attempts in progress.
    pub fn attempts(&self) -> impl Iterator<Item = Attempt> {
        self.replicas.iter().filter_map(Replica::attempt)
    }

    /// Whether some worker keeps this message in progress. A frozen worker does not.
    #[must_use]
    pub fn is_in_progress(&self, id: &StoredId) -> bool {
        self.replicas.iter().any(|replica| {
            let frozen = replica.attempt().is_some_and(|attempt| attempt.frozen);
            replica.delivery.is_some_and(|delivery| {
                delivery.id == *id && !delivery.stale && !delivery.acknowledged_early && !frozen
            })
        })
    }

    /// Whether the consumer counts this message as pending: it was delivered, and an
    /// ack or a redelivery can follow.
    #[must_use]
    pub fn is_ack_pending(&self, message: &StoredMessage, max_deliver: u8) -> bool {
        message.deliveries > 0
            && (message.deliveries < max_deliver || self.is_in_progress(&message.id))
    }

    /// Whether some report is accepted and has not ended.
    #[must_use]
    pub fn has_open_reports(&self) -> bool {
        self.reports.iter().any(|report| report.status.is_open())
    }

    /// Whether reports are due and none runs.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.oldest_due().is_some()
            && self.reports.iter().all(|report| report.status != Status::Running)
    }

    /// The oldest due report.
    #[must_use]
    pub fn oldest_due(&self) -> Option<ReportId> {
        let ids = (0..).map(ReportId);
        ids.zip(&self.reports).find(|(_, report)| report.is_due()).map(|(id, _)| id)
    }

    /// Sorts every list without a meaningful order.
    pub fn sort(&mut self) {
        self.replicas.iter_mut().for_each(Replica::sort);
        self.replicas.sort_unstable();
        self.files.sort_unstable();
        self.in_flight.sort_unstable();
        self.stream.messages.sort_unstable();
        self.stream.remembered_ids.sort_unstable();
        self.dead_letters.sort_unstable();
    }
}
