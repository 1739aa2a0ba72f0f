//! The event log: what happened to accounts and records, for consumers.
//!
//! [`crate::store`] writes an event in the statement that settles its record or opens its account.
//! [`EventLog`] reads the log without gaps: [`horizon`] knows how far.

pub mod event_id;
pub mod horizon;
pub mod log;

pub use event_id::EventIds;
pub use log::{EventDetail, EventFilter, EventLog, EventPage, Source};

use contract::{AccountId, RecordId, UserId};
use time::OffsetDateTime;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// An account was opened.
    AccountCreated,
    /// The ledger applied a movement: its record is SUCCESS.
    RecordSucceeded,
    /// The ledger refused a movement: its record is FAILED.
    RecordFailed,
}

impl EventKind {
    pub const ALL: [Self; 3] = [Self::AccountCreated, Self::RecordSucceeded, Self::RecordFailed];

    /// The `type` in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AccountCreated => "account.created",
            Self::RecordSucceeded => "record.succeeded",
            Self::RecordFailed => "record.failed",
        }
    }

    /// The kind with this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Its number in the database.
    #[must_use]
    pub const fn code(self) -> i16 {
        match self {
            Self::AccountCreated => 1,
            Self::RecordSucceeded => 2,
            Self::RecordFailed => 3,
        }
    }

    /// The kind with this number in the database.
    #[must_use]
    pub const fn from_code(code: i16) -> Option<Self> {
        match code {
            1 => Some(Self::AccountCreated),
            2 => Some(Self::RecordSucceeded),
            3 => Some(Self::RecordFailed),
            _ => None,
        }
    }
}

/// An event as it is stored. What it tells is in the row of its record or account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedEvent {
    /// Its place among all events. It tells how much others move, so it never leaves the service.
    pub position: i64,
    /// Its number among the events of its account: 1, 2, 3 …
    pub sequence: i64,
    pub kind: EventKind,
    pub account: AccountId,
    /// The owner of the account.
    pub owner: UserId,
    /// The settled record.
    pub record: Option<RecordId>,
    pub created_at: OffsetDateTime,
}
