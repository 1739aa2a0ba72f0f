//! The money rules. Each rule has its only copy here. The functions are pure and
//! total: no I/O, no clock, no `async`.
//!
//! - [`decide`]: commands on accounts, one after the other. The transaction-service
//!   decides with it, and `passbook dlq` previews with it.
//! - [`forecast`]: the effect of a batch of commands if none is refused. The
//!   transaction-service applies such a batch in one statement.
//! - [`chain`]: the hashes over the transactions of an account. `passbook verify` checks
//!   them.
//! - [`effect_of`]: the effect of a result on its record. The account-service
//!   settles records with it.
//!
//! The limits of a balance are those of [`contract::Balance`]: zero or more,
//! below [`contract::MONEY_LIMIT`].

mod account;
pub mod chain;
mod decide;
mod forecast;
mod settlement;

pub use account::Account;
pub use decide::{Decision, Decisions, Entry, decide};
pub use forecast::{BatchEffect, Forecast, RunningTotal, forecast};
pub use settlement::{Contradiction, Effect, SettledAs, Settlement, effect_of};
