//! One binary, so that the servers are started once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod accounts;
mod alerts;
mod authentication;
mod bad_input;
mod batches;
mod chaos;
mod collector;
mod concurrency;
mod crash_points;
mod dead_letters;
mod development_stack;
mod doctor;
mod faults;
mod graceful_stop;
mod idempotency;
mod load;
mod many_at_once;
mod messages;
mod pushed;
mod redrive;
mod restore;
mod set_up;
mod streams;
mod telemetry;
mod tls;
mod traces;
mod twice_credited;
mod verify;
mod waiting;
mod withdrawals;
