//! NATS: the connection, publishing with PubAcks, the streams and consumers of
//! the contract, and their metrics.

pub mod broker_metrics;
pub mod connection;
pub(crate) mod max_payload;
pub mod outgoing;
pub mod publish;
pub mod refusal;
pub mod streams;
