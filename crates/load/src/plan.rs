//! The plan of a run.

use std::time::Duration;

/// The kind, amount and duration of the load.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// When requests are sent.
    pub pace: Pace,
    /// How long new requests are sent. After that, the run waits for the
    /// responses to the requests in flight.
    pub duration: Duration,
    /// The state of the record in the response.
    pub wait_for: WaitFor,
    /// The accounts of the movements.
    pub distribution: AccountDistribution,
    /// The kinds of the movements.
    pub mix: Mix,
    /// The number of movements in a request.
    pub shape: Shape,
}

/// When requests are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// A closed loop: each client sends its next request after the response to
    /// the one before.
    Closed {
        /// Number of clients, each with one connection.
        clients: u16,
    },
    /// An open loop: requests are due at even intervals, whether or not earlier
    /// ones are answered.
    Open {
        /// Requests per second.
        rate: f64,
        /// Maximum number of requests in flight. A request due while all
        /// connections are busy is sent late; its latency still counts from its
        /// due time.
        connections: u16,
    },
}

impl Pace {
    /// Number of connections.
    #[must_use]
    pub const fn connections(self) -> u16 {
        match self {
            Self::Closed { clients } => clients,
            Self::Open { connections, .. } => connections,
        }
    }
}

/// The state of the record in the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitFor {
    /// Accepted (202): the movement is durable.
    Accepted,
    /// Settled, with `Prefer: wait=10`.
    Settled,
}

/// How the account of a movement is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum AccountDistribution {
    /// Every account with the same probability.
    Uniform,
    /// Always the first account.
    Hot,
    /// The k-th account with a probability proportional to 1/k^s.
    Zipf(f64),
}

/// The kinds of the movements.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Mix {
    /// Share of withdrawals, 0 to 1. The rest are deposits.
    pub withdrawals: f64,
    /// Share of overdrafts among the withdrawals, 0 to 1. The ledger refuses
    /// them.
    pub refused: f64,
}

/// The number of movements in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One.
    Single,
    /// This number, through `POST /v1/batches`.
    Batch(u16),
}

impl Shape {
    /// Number of movements in a request.
    #[must_use]
    pub const fn movements(self) -> u16 {
        match self {
            Self::Single => 1,
            Self::Batch(movements) => movements,
        }
    }
}
