//! The rules of the protocol. Each can be switched off. The invariants that
//! break without it are the reason for it.

use crate::named::{display_name, parse_name};

/// A rule of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// The PENDING record is committed before its command is published.
    RecordBeforeCommand,
    /// The outcome is committed before its result is published.
    OutcomeBeforeResult,
    /// A message is acked after the commit of its effects, not on arrival.
    CommitBeforeAck,
    /// A message is acked after the PubAck of its result or dead letter, not after the publish.
    AwaitPubAck,
    /// The ledger looks for a stored decision, and decides a record once.
    RememberDecided,
    /// Refusals are stored as rows.
    PinnedRefusals,
    /// The stored outcome of a duplicate command is published again before the ack.
    RepublishOnDuplicate,
    /// The commands of PENDING records are published again.
    Redrive,
    /// A redriven command has its own message id.
    RedriveMessageId,
    /// A result has the message id of its command, not the record id.
    ResultMessageId,
    /// Only a PENDING record takes an outcome.
    OnlyPending,
    /// Only a newer `account_seq` changes the projected balance.
    OnlyNewerSeq,
    /// A message that can't be processed is dead-lettered.
    DeadLetter,
    /// The PubAck of the dead letter is awaited before the message is termed.
    DeadLetterBeforeTerm,
    /// The advisory about a message at `max_deliver` is processed: the message is dead-lettered.
    WorkOffUsedUp,
    /// The sweep finds a command at `max_deliver` even if its advisory was lost.
    Sweep,
    /// A batch locks its accounts before it reads their balances.
    LockAccounts,
    /// `UNIQUE (record_id)` in the ledger.
    UniqueRecordId,
    /// `UNIQUE (account_id, account_seq)` in the ledger.
    UniqueAccountSeq,
    /// The message id of a bundle is a digest of the ids of its parts, not the id of one of them.
    DigestMessageId,
    /// A message is acked after all of its parts are settled, not after one.
    AckAllParts,
    /// A message is acked after the PubAck of each result of its parts, not after the first.
    AwaitEveryPubAck,
    /// Only the part that can't be processed is dead-lettered, not its neighbours.
    DeadLetterOnePart,
    /// If a part fails before the last delivery, the whole message is handed back.
    /// Without the rule, the part is skipped, and the message is acked after the others.
    HandBackWhole,
    /// Each part of a message at `max_deliver` is dead-lettered, not only the first.
    UsedUpEachPart,
    /// From its second redrive on, a command travels alone.
    RedriveAlone,
    /// The parts of a message that the broker refuses for its size are published alone.
    /// Without the rule, the worker hands its message back.
    TakeApart,
    /// A part whose account another transaction holds stays in hand.
    /// Without the rule, the message is handed back, like one with a part that failed.
    KeepLocked,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Self; 28] = [
        Self::RecordBeforeCommand,
        Self::OutcomeBeforeResult,
        Self::CommitBeforeAck,
        Self::AwaitPubAck,
        Self::RememberDecided,
        Self::PinnedRefusals,
        Self::RepublishOnDuplicate,
        Self::Redrive,
        Self::RedriveMessageId,
        Self::ResultMessageId,
        Self::OnlyPending,
        Self::OnlyNewerSeq,
        Self::DeadLetter,
        Self::DeadLetterBeforeTerm,
        Self::WorkOffUsedUp,
        Self::Sweep,
        Self::LockAccounts,
        Self::UniqueRecordId,
        Self::UniqueAccountSeq,
        Self::DigestMessageId,
        Self::AckAllParts,
        Self::AwaitEveryPubAck,
        Self::DeadLetterOnePart,
        Self::HandBackWhole,
        Self::UsedUpEachPart,
        Self::RedriveAlone,
        Self::TakeApart,
        Self::KeepLocked,
    ];

    /// The name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RecordBeforeCommand => "record-before-command",
            Self::OutcomeBeforeResult => "outcome-before-result",
            Self::CommitBeforeAck => "commit-before-ack",
            Self::AwaitPubAck => "await-pub-ack",
            Self::RememberDecided => "remember-decided",
            Self::PinnedRefusals => "pinned-refusals",
            Self::RepublishOnDuplicate => "republish-on-duplicate",
            Self::Redrive => "redrive",
            Self::RedriveMessageId => "redrive-message-id",
            Self::ResultMessageId => "result-message-id",
            Self::OnlyPending => "only-pending",
            Self::OnlyNewerSeq => "only-newer-seq",
            Self::DeadLetter => "dead-letter",
            Self::DeadLetterBeforeTerm => "dead-letter-before-term",
            Self::WorkOffUsedUp => "work-off-used-up",
            Self::Sweep => "sweep",
            Self::LockAccounts => "lock-accounts",
            Self::UniqueRecordId => "unique-record-id",
            Self::UniqueAccountSeq => "unique-account-seq",
            Self::DigestMessageId => "digest-message-id",
            Self::AckAllParts => "ack-all-parts",
            Self::AwaitEveryPubAck => "await-every-pub-ack",
            Self::DeadLetterOnePart => "dead-letter-one-part",
            Self::HandBackWhole => "hand-back-whole",
            Self::UsedUpEachPart => "dead-letter-each-part",
            Self::RedriveAlone => "redrive-alone",
            Self::TakeApart => "take-apart",
            Self::KeepLocked => "keep-locked",
        }
    }
}

display_name!(Rule);
parse_name!(Rule);
