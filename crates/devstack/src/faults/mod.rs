//! Fault injection: killed, frozen or held processes, and cut, slow or silent
//! network connections. Only a stack started with `--faults` has it. Its
//! services reach their servers over [`link`]s, and its supervisor accepts
//! faults on a port of its own.
//!
//! No fault is simulated. A kill is SIGKILL, a link is a TCP connection in two
//! halves, and a wipe removes the data from the disk.

mod client;
mod control;
mod fault;
mod impairment;
mod link;
mod network;
mod pattern;

pub use client::{FaultClient, FaultTarget};
pub(crate) use control::{ControlServer, ProcessTarget, Targets};
pub use fault::Fault;
pub(crate) use network::Network;
