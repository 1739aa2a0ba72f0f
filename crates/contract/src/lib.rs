//! What crosses a service boundary, and nothing else: ids, money, commands,
//! results, and the streams and consumers that carry them.
//!
//! Everything here parses strictly and has one way in: past this crate there
//! are no raw strings, UUIDs or decimals. The wire format is pinned by the
//! files under `golden/`.

mod ids;
mod messages;
mod money;
pub mod permissions;
mod topology;

pub use ids::{AccountId, ParseIdError, RecordId, UserId};
pub use messages::{Command, Kind, MovementResult, Outcome, Reason};
pub use money::{Amount, AmountError, Balance, Currency, UnknownCurrency};
pub use topology::{
    CONSUMERS, ConsumerSpec, DEAD_LETTER, MOVEMENT_STREAMS, Retention, STREAMS, StreamSpec,
    TRANSACTION, TRANSACTION_RESULT, USED_UP, consumers, subjects,
};
