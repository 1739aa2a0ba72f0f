//! What crosses a process boundary, and nothing else: ids, money, commands,
//! results, dead letters, the streams and consumers that carry them, and the
//! broker's permissions.
//!
//! Everything here parses strictly and has one way in: past this crate there
//! are no raw strings, UUIDs or decimals. The files under `golden/` pin the
//! wire format.

pub mod dead_letter;
mod ids;
mod messages;
mod money;
pub mod permissions;
mod topology;
mod wire;

pub use ids::{AccountId, ParseIdError, RecordId, UserId};
pub use messages::{Command, InvalidMessage, Kind, Movement, Outcome, Reason, TransactionResult};
pub use money::{Amount, AmountError, Balance, Currency, MONEY_LIMIT, UnknownCurrency};
pub use topology::{
    CONSUMERS, ConsumerSpec, DEAD_LETTER, MAX_DELIVERIES, MOVEMENT_STREAMS, Retention, STREAMS,
    StreamSpec, TRANSACTION, TRANSACTION_RESULT, consumers, subjects,
};
