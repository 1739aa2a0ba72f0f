//! What every service process has: configuration, telemetry, a graceful stop,
//! the admin port, problem+json, NATS and PostgreSQL connections, the streams,
//! and the pull-worker loop. It knows messages, not what is in them.

pub mod admin;
pub mod backlog;
pub mod config;
pub mod crash;
mod export;
pub mod health;
pub mod http;
pub mod nats;
pub mod postgres;
pub mod problem;
pub mod process;
pub mod publish;
pub mod service;
pub mod streams;
pub mod tasks;
pub mod telemetry;
pub mod trace;
pub mod worker;
