//! The parts common to all services: configuration, telemetry, health, a graceful
//! stop, HTTP, the connections to PostgreSQL and NATS, and the worker loop. This
//! crate handles messages without reading their content.

mod clock;
pub mod config;
pub mod failpoint;
pub mod health;
pub mod http;
pub mod nats;
pub mod postgres;
pub mod service;
pub mod setting;
pub mod tasks;
pub mod telemetry;
pub mod worker;
