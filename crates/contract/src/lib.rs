//! The contract between processes, and nothing else: ids, money, commands,
//! results, report jobs, dead letters, their streams and consumers, and the broker's
//! permissions.
//!
//! All input is parsed strictly here, so that code outside this crate handles no raw
//! strings, UUIDs or decimals. The files under `golden/` pin the
//! wire format.

pub mod bundle;
pub mod dead_letter;
pub mod file_signature;
mod ids;
mod job;
mod messages;
mod money;
pub mod permissions;
mod report_queue;
mod scope;
mod stream_storage;
mod topology;
mod transaction_id;
mod wire;

pub use ids::{
    AccountId, ApiKeyId, AuditEntryId, ParseIdError, RecordId, ReportId, UserId, WebhookEndpointId,
};
pub use job::Job;
pub use messages::{Command, InvalidMessage, Kind, Movement, Outcome, Reason, TransactionResult};
pub use money::{Amount, AmountError, Balance, Currency, MONEY_LIMIT, UnknownCurrency};
pub use report_queue::{InvalidQueue, ReportQueue, variables};
pub use scope::{Scope, Scopes};
pub use stream_storage::{InvalidStorage, STREAM_STORAGE_VARIABLE, StreamStorage};
pub use topology::{
    ConsumerSpec, DEAD_LETTER, MAX_DELIVERIES, MOVEMENT_STREAMS, Retention, STANDARD, StreamSpec,
    TRANSACTION, TRANSACTION_RESULT, Topology, WhenFull, consumers, subjects,
};
pub use transaction_id::{InvalidTransactionId, TransactionId};
