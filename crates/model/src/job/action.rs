//! Every step that a state can take next. A replica is named by its position, which
//! sorting a state changes.

use super::{
    report::{File, ReportId},
    stream::{Message, StoredId, Wipe},
};

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A replica accepts a request: the QUEUED row is committed.
    Accept(usize, ReportId),
    /// A replica publishes a message before it commits the row.
    SendUnrecorded(usize, ReportId),
    /// A client cancels a report.
    Cancel(ReportId),
    /// The redrive claims a due report, to send a message for it.
    Redrive(usize, ReportId),
    /// A replica publishes a message, and gets the PubAck.
    Send(usize, Message),
    /// The publication of a message is delayed.
    DelaySend(usize, Message),
    /// A delayed publication reaches the broker.
    Arrive(Message),
    /// A worker receives a message.
    Deliver(usize, StoredId),
    /// A message at `max_deliver` is settled.
    WorkOff(StoredId),
    /// The redrive settles a delivered message, because reports are due and none runs.
    SettleIdle(StoredId),
    /// A worker sees that no report runs, without the lock of claims.
    Check(usize),
    /// A worker commits a claim, or finds nothing to do.
    Claim(usize),
    /// A worker stores the files of its attempt.
    Store(usize),
    /// A worker commits SUCCEEDED, unless its attempt is fenced off.
    Commit(usize),
    /// An attempt fails: the worker commits its end.
    Fail(usize),
    /// The heartbeat of a worker finds a request to cancel: the worker commits its end.
    ObserveCancel(usize),
    /// The heartbeat of a worker finds its lease lost: the worker ends its attempt.
    Abandon(usize),
    /// The process of a worker gets SIGTERM: it hands over what it has.
    Stop(usize),
    /// A worker publishes the dead letter of its message.
    DeadLetter(usize),
    /// The broker refuses the dead letter: the worker publishes a copy of its message.
    Requeue(usize),
    /// A worker acks or terms its message.
    Acknowledge(usize),
    /// The ack of a lost message removes this other one.
    AcknowledgeOther(usize, StoredId),
    /// The delay between two attempts ends.
    EndDelay(ReportId),
    /// The lease of a RUNNING report ends.
    EndLease(ReportId),
    /// A replica ends a lost attempt.
    Expire(ReportId),
    /// A replica inserts the alert row of a FAILED report.
    InsertAlert(usize, ReportId),
    /// The dead letter of a FAILED report is published.
    DeadLetterReport(ReportId),
    /// The receiver takes an alert.
    TakeAlert(ReportId),
    /// The receiver does not take an alert.
    RefuseAlert(ReportId),
    /// A file that no report needs is deleted.
    Delete(File),
    /// A replica crashes and starts again.
    Crash(usize),
    /// The broker loses data.
    Wipe(Wipe),
    /// The clock of the broker goes back.
    SetClockBack,
    /// A stray message is stored.
    SendStray,
}
