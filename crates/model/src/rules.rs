//! The rules that the protocol keeps, each of which can be switched off: what
//! breaks then is the reason why it is there.

use std::{fmt, str::FromStr};

/// A rule of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// The PENDING record is committed before its command is published.
    RecordBeforeCommand,
    /// The outcome is committed before its result is published.
    OutcomeBeforeResult,
    /// A message is acked after what it caused was committed, not on arrival.
    CommitBeforeAck,
    /// A message is acked after the PubAck of what it caused, not once that was sent.
    AwaitPubAck,
    /// The ledger finds what was decided for a record, and decides it once.
    RememberDecided,
    /// Refusals are stored rows, too.
    PinnedRefusals,
    /// A duplicate command is answered with its stored outcome, not only acked.
    RepublishOnDuplicate,
    /// The commands of PENDING records are sent again.
    Redrive,
    /// A redrive's command has a message id of its own.
    RedriveMessageId,
    /// A result has its command's message id, not the record's.
    ResultMessageId,
    /// Only a PENDING record takes an outcome.
    OnlyPending,
    /// Only a newer `account_seq` moves the projected balance.
    OnlyNewerSeq,
    /// What can't be processed becomes a dead letter.
    DeadLetter,
    /// The dead letter has its PubAck before the message is let go.
    DeadLetterBeforeTerm,
    /// A message whose deliveries are used up becomes a dead letter.
    WorkOffUsedUp,
    /// A message that is delivered no more, and whose advisory was lost, is found all the same.
    Sweep,
    /// A batch locks its accounts before it reads their balances.
    LockAccounts,
    /// `UNIQUE (record_id)` in the ledger.
    UniqueRecordId,
    /// `UNIQUE (account_id, account_seq)` in the ledger.
    UniqueAccountSeq,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Self; 19] = [
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
    ];

    /// Its name on the command line.
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
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|rule| rule.name() == name)
            .ok_or_else(|| format!("no rule is called {name}"))
    }
}

/// Which rules are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    off: Vec<Rule>,
}

impl Rules {
    /// All but these.
    #[must_use]
    pub fn without(off: &[Rule]) -> Self {
        Self { off: off.to_vec() }
    }

    /// Whether this one is kept.
    #[must_use]
    pub fn keep(&self, rule: Rule) -> bool {
        !self.off.contains(&rule)
    }
}
