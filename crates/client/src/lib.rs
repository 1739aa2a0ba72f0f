//! The Rust client of Passbook's HTTP API.
//!
//! ```no_run
//! # async fn example() -> Result<(), client::Error> {
//! use std::time::Duration;
//! use client::{Client, Decimal, IdempotencyKey, Movement, OpenAccount};
//!
//! let client = Client::new("https://passbook.example.com", "a bearer token or an API key")?;
//! let account = client.open_account(&OpenAccount::new("USD"), &IdempotencyKey::random()).await?;
//! // Store the key durably before the first request: the same key moves the money once.
//! let key = IdempotencyKey::random();
//! let movement = Movement { reference: Some("invoice-17".into()), ..Movement::of(Decimal::TEN) };
//! let record = client.deposit(account.account_id, &movement, &key).await?;
//! let record = client.settled(record, Duration::from_secs(60)).await?;
//! # Ok(()) }
//! ```
//!
//! A request that fails for a time is sent again, with the same bytes and the same key, after a
//! random pause that grows and honours `Retry-After` ([`Retry`]). [`Error::may_retry`] says whether
//! the same request may be sent again, [`Error::outcome_is_unknown`] whether it may have had its
//! effect. [`Client::follow`] reads the event log and resumes, [`webhook::Verifier`] checks
//! webhooks. Money is a [`Decimal`], never a float.
//!
//! The HTTP client is hyper with rustls, as in the services. reqwest was rejected: with its TLS,
//! every other user of reqwest in the workspace would have to choose a provider of cryptography.

mod account;
mod batch;
mod client;
mod error;
mod event;
mod event_stream;
mod idempotency_key;
pub mod money;
mod movement;
mod pieces;
mod query;
mod report;
mod request;
mod retry;
pub mod sse;
mod transport;
pub mod webhook;
mod webhook_endpoint;

pub use account::{Account, AccountFilter, OpenAccount};
pub use batch::{BatchItem, BatchOutcome};
pub use client::{Builder, Client};
pub use contract::{AccountId, ApiKeyId, Kind, Reason, RecordId, ReportId, WebhookEndpointId};
pub use error::{Cause, Error, InvalidPart, Problem};
pub use event::{Event, EventFilter, EventPage, OpenedAccount};
pub use event_stream::EventStream;
pub use http::Method;
pub use idempotency_key::{IdempotencyKey, InvalidKey};
pub use movement::{Movement, Record, RecordFilter, RefusalReason, Status};
pub use pieces::Pieces;
pub use query::Page;
pub use report::{
    Artifact, Report, ReportEvent, ReportEvents, ReportProgress, ReportRequest, ReportState,
};
pub use request::{Answer, Request};
pub use retry::Retry;
pub use rust_decimal::Decimal;
pub use webhook_endpoint::{CreateWebhookEndpoint, Signature, WebhookEndpoint};

/// The client's own entries on an account or a movement.
pub type Metadata = std::collections::BTreeMap<String, String>;
