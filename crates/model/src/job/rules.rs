//! The rules of the job protocol. Each can be switched off. The invariants that
//! break without it are the reason for it.

use crate::named::{display_name, parse_name};

/// A rule of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// The row of a report is committed before its message is published.
    RowBeforeMessage,
    /// A message is acked after the commit of its effects, not on arrival.
    CommitBeforeAck,
    /// Messages of due reports are sent again while the stream holds fewer messages
    /// than reports are due.
    Redrive,
    /// A message of the redrive has its own message id.
    RedriveMessageId,
    /// A RUNNING report whose lease is over is ended as lost.
    ExpireLost,
    /// A RUNNING report is lost only after the end of its lease.
    WaitForLease,
    /// The lease is extended while the attempt runs.
    Heartbeat,
    /// No report is claimed while another one has a lease.
    RunningCheck,
    /// The running check and the claim are under one lock.
    ClaimUnderLock,
    /// A worker claims the oldest due report, not the one that its message names.
    OldestFirst,
    /// An attempt writes only to the row with its own number.
    FenceByAttempt,
    /// An attempt writes only to a RUNNING row.
    OnlyRunning,
    /// A failed attempt ends with a QUEUED row and an ack, not with a delayed nak.
    Requeue,
    /// A crash counts as a failure.
    CountCrashes,
    /// A hand-over does not count as a failure.
    SpareHandOvers,
    /// The alert is a row of the same commit as FAILED.
    AlertWithFailure,
    /// An alert is sent again until the receiver takes it.
    RepeatAlert,
    /// The commit of SUCCEEDED requires that nobody asked to cancel the report.
    CancelAtCommit,
    /// A requested cancellation precedes another attempt.
    CancelBeforeRetry,
    /// The path of a file contains the number of its attempt.
    PathsByAttempt,
    /// Files without a row are deleted.
    CleanUp,
    /// The files of the running attempt are not deleted.
    SpareRunning,
    /// A message that names no report is dead-lettered.
    DeadLetter,
    /// The PubAck of the dead letter is awaited before the message is termed.
    DeadLetterBeforeTerm,
    /// A message whose dead letter the broker refuses goes to the end of its queue, before
    /// its ack.
    RequeueUnlettered,
    /// A message at `max_deliver` is settled by its advisory or by the sweep.
    WorkOffUsedUp,
    /// A delivered message is settled if reports are due and none runs for the time of an ack
    /// wait.
    SettleIdle,
    /// The consumer delivers one message at a time.
    OneDelivery,
    /// A message is kept in progress while its worker has it.
    KeepInProgress,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Self; 29] = [
        Self::RowBeforeMessage,
        Self::CommitBeforeAck,
        Self::Redrive,
        Self::RedriveMessageId,
        Self::ExpireLost,
        Self::WaitForLease,
        Self::Heartbeat,
        Self::RunningCheck,
        Self::ClaimUnderLock,
        Self::OldestFirst,
        Self::FenceByAttempt,
        Self::OnlyRunning,
        Self::Requeue,
        Self::CountCrashes,
        Self::SpareHandOvers,
        Self::AlertWithFailure,
        Self::RepeatAlert,
        Self::CancelAtCommit,
        Self::CancelBeforeRetry,
        Self::PathsByAttempt,
        Self::CleanUp,
        Self::SpareRunning,
        Self::DeadLetter,
        Self::DeadLetterBeforeTerm,
        Self::RequeueUnlettered,
        Self::WorkOffUsedUp,
        Self::SettleIdle,
        Self::OneDelivery,
        Self::KeepInProgress,
    ];

    /// The name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RowBeforeMessage => "row-before-message",
            Self::CommitBeforeAck => "commit-before-ack",
            Self::Redrive => "redrive",
            Self::RedriveMessageId => "redrive-message-id",
            Self::ExpireLost => "expire-lost",
            Self::WaitForLease => "wait-for-lease",
            Self::Heartbeat => "heartbeat",
            Self::RunningCheck => "running-check",
            Self::ClaimUnderLock => "claim-under-lock",
            Self::OldestFirst => "oldest-first",
            Self::FenceByAttempt => "fence-by-attempt",
            Self::OnlyRunning => "only-running",
            Self::Requeue => "requeue",
            Self::CountCrashes => "count-crashes",
            Self::SpareHandOvers => "spare-hand-overs",
            Self::AlertWithFailure => "alert-with-failure",
            Self::RepeatAlert => "repeat-alert",
            Self::CancelAtCommit => "cancel-at-commit",
            Self::CancelBeforeRetry => "cancel-before-retry",
            Self::PathsByAttempt => "paths-by-attempt",
            Self::CleanUp => "clean-up",
            Self::SpareRunning => "spare-running",
            Self::DeadLetter => "dead-letter",
            Self::DeadLetterBeforeTerm => "dead-letter-before-term",
            Self::RequeueUnlettered => "requeue-unlettered",
            Self::WorkOffUsedUp => "work-off-used-up",
            Self::SettleIdle => "settle-idle",
            Self::OneDelivery => "one-delivery",
            Self::KeepInProgress => "keep-in-progress",
        }
    }
}

display_name!(Rule);
parse_name!(Rule);
