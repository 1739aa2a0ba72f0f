//! What load to make.

use std::time::Duration;

/// How much of what, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// When requests are sent.
    pub pace: Pace,
    /// How long new requests are sent. Those that are on their way are waited
    /// for after that.
    pub time: Duration,
    /// What a client waits for.
    pub answer: Answer,
    /// Whose money moves.
    pub choice: Choice,
    /// Which way it moves.
    pub mix: Mix,
    /// How movements are sent.
    pub shape: Shape,
}

/// When requests are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// Each of so many clients sends its next request once it has the answer
    /// to the one before.
    Closed {
        /// How many.
        clients: u16,
    },
    /// So many requests a second are due, evenly, whatever becomes of those
    /// before.
    Open {
        /// How many a second.
        rate: f64,
        /// How many can be on their way at a time. One that is due when all
        /// connections are busy is sent late, and its latency counts from when
        /// it was due.
        connections: u16,
    },
}

impl Pace {
    /// How many connections that takes.
    #[must_use]
    pub const fn connections(self) -> u16 {
        match self {
            Self::Closed { clients } => clients,
            Self::Open { connections, .. } => connections,
        }
    }
}

/// What a client waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// 202: the movement is durable.
    Accepted,
    /// `Prefer: wait=10`: the settled record.
    Settled,
}

/// Whose money moves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Choice {
    /// Any account's, with the same chance.
    Uniform,
    /// Always the first one's.
    Hot,
    /// The k-th account's with a chance of 1/k^s.
    Zipf(f64),
}

/// Which way money moves.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Mix {
    /// The share of withdrawals, 0 to 1; the others are deposits.
    pub withdrawals: f64,
    /// The share of those withdrawals that ask for more than can be there, 0
    /// to 1.
    pub refused: f64,
}

/// How movements are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One a request.
    Single,
    /// So many a request, through `POST /v1/batches`.
    Batch(u16),
}

impl Shape {
    /// Movements in a request.
    #[must_use]
    pub const fn movements(self) -> u16 {
        match self {
            Self::Single => 1,
            Self::Batch(movements) => movements,
        }
    }
}
