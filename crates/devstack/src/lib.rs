//! Starts the real thing on one machine: PostgreSQL, nats-server, replicas of
//! every service, and one HTTP address before them. `passbook dev` is its
//! front end, and the tests run against what it starts.
//!
//! It also breaks it, when it was asked for that: [`Fault`].
//!
//! Nothing here is a stand-in: the servers are the ones of production, with
//! their durability on, and the services are the programs that are shipped,
//! configured by environment variables as a deployment does it.
//!
//! Linux and other Unix systems; bound children ([`Bound`]) only on Linux.

mod bound;
mod faults;
pub mod folder;
mod front;
mod headers;
mod initdb;
mod launcher;
mod lock;
mod nats;
mod ports;
mod postgres;
mod postgres_home;
mod private_file;
mod secrets;
mod servers;
mod services;
mod shared_body;
mod stack;
mod stackfile;
mod supervised;
mod wheels;

pub use bound::{Bound, User};
pub use faults::{Fault, FaultClient, Target};
pub use lock::{alive, supervisor};
pub use nats::Brokers;
pub use secrets::{NatsPasswords, PostgresPasswords, Secrets};
pub use services::Replicas;
pub use stack::{FrontPort, Options, Stack};
pub use stackfile::{Control, Databases, Process, StackFile, Tokens};
