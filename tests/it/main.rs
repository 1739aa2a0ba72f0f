//! The integration tests, in one binary, so that the shared stack is started only
//! once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod accounts;
mod alerts;
mod authentication;
mod batches;
mod chaos;
mod concurrency;
mod crash_points;
mod development_stack;
mod dlq;
mod doctor;
mod duplicate_commands;
mod faults;
mod graceful_stop;
mod idempotency;
mod invalid_messages;
mod invalid_requests;
mod load;
mod max_deliveries;
mod metrics;
mod prefer_wait;
mod provisioning;
mod pushgateway;
mod redrive;
mod refusals;
mod report_storage;
mod reports;
mod restore;
mod results;
mod statements;
mod stores;
mod streams;
mod tls;
mod traces;
mod verify;
