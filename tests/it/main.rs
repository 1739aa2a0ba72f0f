//! One binary, so that the servers are started once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod accounts;
mod authentication;
mod bad_input;
mod concurrency;
mod dead_letters;
mod development_stack;
mod doctor;
mod graceful_stop;
mod idempotency;
mod messages;
mod redrive;
mod streams;
mod twice_credited;
mod verify;
mod waiting;
mod withdrawals;
