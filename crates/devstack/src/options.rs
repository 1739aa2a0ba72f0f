//! The options of a stack, as `passbook dev up` passes them.

use std::path::PathBuf;

use crate::{nats::Brokers, ports::Loopback, service::Replicas};

/// The port of the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyPort {
    /// This port, or any free port if it is taken.
    Preferred(u16),
    /// This port, or an error if it is taken. 0 means any free port.
    Exact(u16),
}

/// The parts of a stack and the places of its files.
#[derive(Debug)]
pub struct Options {
    /// The stack's folder: data, secrets, logs. Created if it is missing.
    pub dir: PathBuf,
    /// The folder for installing the servers this machine lacks.
    pub tools: PathBuf,
    /// Number of replicas of each service.
    pub replicas: Replicas,
    /// Number of the broker's nodes.
    pub brokers: Brokers,
    /// Whether faults can be injected. If so, each process reaches its servers
    /// over its own links, and a link can be broken.
    pub faults: bool,
    /// The host on which everything listens.
    pub host: Loopback,
    /// The port of the proxy.
    pub port: ProxyPort,
    /// The `passbook` program.
    pub passbook: PathBuf,
    /// The folder of the services' programs.
    pub programs: PathBuf,
    /// The folder for arming crash points. Only debug builds read it.
    pub crash_points: Option<PathBuf>,
}
