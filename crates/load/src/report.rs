//! What was measured.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use crate::{Books, Latency, tally::Tally};

/// The figures of one run.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// What the idempotency keys of its movements begin with: they can be
    /// found in the database by that.
    pub keys: String,
    /// Requests that were answered, or got no answer.
    pub requests: u64,
    /// Movements whose acceptance was answered.
    pub accepted: u64,
    /// Those whose answer was the settled record.
    pub told: u64,
    /// Records that were found settled in the end.
    pub settled: u64,
    /// Those among them that the ledger refused.
    pub refused: u64,
    /// Records that stayed PENDING: not settled when nothing happened any more.
    pub pending: u64,
    /// Requests by status; 0 where no answer came.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests, or items of batches, that were not accepted.
    pub unexpected: u64,
    /// What some of those got instead.
    pub samples: Vec<String>,
    /// From the first request to the last answer, in seconds.
    pub seconds: f64,
    /// From the first request until the last record was settled, in seconds.
    pub settled_after_seconds: f64,
    /// Movements accepted a second, over the first of these times.
    pub accepted_per_second: f64,
    /// Records settled a second, over the second of these times.
    pub settled_per_second: f64,
    /// How long the requests took, in milliseconds.
    pub latency: Latency,
    /// What this process took of a processor for each request, in
    /// microseconds, looking at counters included.
    pub cpu_micros_per_request: f64,
}

/// How long it took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Took {
    pub(crate) answered: Duration,
    pub(crate) settled: Duration,
    pub(crate) processor: Duration,
}

impl Report {
    pub(crate) fn new(keys: &str, tally: &Tally, books: Books, took: Took) -> Self {
        let settled = books.records.saturating_sub(books.pending);
        let per_second = |count, time: Duration| number(count) / time.as_secs_f64().max(1e-9);
        Self {
            keys: keys.to_owned(),
            requests: tally.requests,
            accepted: tally.accepted,
            told: tally.told,
            settled,
            refused: books.refused,
            pending: books.pending,
            statuses: tally.statuses.clone(),
            unexpected: tally.unexpected,
            samples: tally.samples.clone(),
            seconds: took.answered.as_secs_f64(),
            settled_after_seconds: took.settled.as_secs_f64(),
            accepted_per_second: per_second(tally.accepted, took.answered),
            settled_per_second: per_second(settled, took.settled),
            latency: Latency::from(&tally.latency),
            cpu_micros_per_request: took.processor.as_secs_f64() * 1e6
                / number(tally.requests.max(1)),
        }
    }

    /// Whether everything that was sent was accepted, and all of that settled.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.unexpected == 0 && self.pending == 0 && self.settled >= self.accepted
    }
}

#[expect(clippy::as_conversions, reason = "counts here are far below 2^53")]
const fn number(count: u64) -> f64 {
    count as f64
}
