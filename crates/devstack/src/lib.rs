//! Runs Passbook on one machine: PostgreSQL, nats-server, replicas of every
//! service, and a proxy with one HTTP address in front of them. `passbook dev`
//! is its command line, and the tests run against the stack it starts.
//!
//! A stack that was started with faults can also be broken on purpose: see
//! [`Fault`].
//!
//! The stack uses no mocks. The servers are the ones used in production, with
//! durability on. The services are the released programs, configured through
//! environment variables as in a deployment.
//!
//! Runs on Linux and other Unix systems. Only Linux ends the child processes
//! when the supervisor is killed: see [`PdeathsigCommand`].

mod database;
mod faults;
mod inheritance;
mod lock;
mod nats;
mod options;
mod pdeathsig;
mod ports;
mod postgres;
mod private_file;
mod procfs;
pub mod proxy;
mod remove;
mod replica;
mod report_service;
mod secrets;
mod server_search;
pub mod service;
mod spawn;
mod stack;
pub mod stack_dir;
mod stack_file;
mod supervisor;
mod wheel_install;

pub use faults::{Fault, FaultClient, FaultTarget};
pub use lock::supervisor_pid;
pub use nats::Brokers;
pub use options::{Options, ProxyPort};
pub use pdeathsig::{PdeathsigCommand, User};
pub use ports::Loopback;
pub use procfs::alive;
pub use secrets::{Passwords, Secrets};
pub use service::Replicas;
pub use stack::{STOP_TIMEOUT, Stack};
pub use stack_file::{ControlAddress, Databases, Process, StackFile, Tokens};
