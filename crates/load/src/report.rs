//! The figures of a run.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use crate::{Latency, RecordCounts, tally::Tally};

/// The figures of one run.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The common prefix of the idempotency keys. It finds the movements of
    /// this run in the database.
    #[serde(rename = "keys")]
    pub key_prefix: String,
    /// Requests sent, with or without a response.
    pub requests: u64,
    /// Movements whose acceptance was confirmed.
    pub accepted: u64,
    /// Movements with the settled record in the response.
    #[serde(rename = "told")]
    pub settled_in_response: u64,
    /// Records settled at the end of the run.
    pub settled: u64,
    /// Settled records refused by the ledger.
    pub refused: u64,
    /// Records still PENDING after settling had stalled.
    pub pending: u64,
    /// Requests by HTTP status. 0: no response.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests, or items of batches, without an acceptance.
    pub unexpected: u64,
    /// Some of the unexpected responses.
    pub samples: Vec<String>,
    /// Seconds from the first request to the last response.
    pub seconds: f64,
    /// Seconds from the first request until the last record was settled.
    pub settled_after_seconds: f64,
    /// Accepted movements per second, over `seconds`.
    pub accepted_per_second: f64,
    /// Settled records per second, over `settled_after_seconds`.
    pub settled_per_second: f64,
    /// The latency of the requests with an expected status, in milliseconds.
    pub latency: Latency,
    /// Processor time of this process per request in microseconds, including
    /// the reads of the counters.
    pub cpu_micros_per_request: f64,
}

/// The durations of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunTimes {
    /// From the first request to the last response.
    pub(crate) responses: Duration,
    /// From the first request until the last record was settled.
    pub(crate) settlement: Duration,
    /// Processor time of this process.
    pub(crate) processor: Duration,
}

impl Report {
    pub(crate) fn new(
        key_prefix: &str,
        tally: &Tally,
        records: RecordCounts,
        times: RunTimes,
    ) -> Self {
        let settled = records.total.saturating_sub(records.pending);
        let per_second = |count, time: Duration| number(count) / time.as_secs_f64().max(1e-9);
        Self {
            key_prefix: key_prefix.to_owned(),
            requests: tally.requests,
            accepted: tally.accepted,
            settled_in_response: tally.settled_in_response,
            settled,
            refused: records.refused,
            pending: records.pending,
            statuses: tally.statuses.clone(),
            unexpected: tally.unexpected,
            samples: tally.samples.clone(),
            seconds: times.responses.as_secs_f64(),
            settled_after_seconds: times.settlement.as_secs_f64(),
            accepted_per_second: per_second(tally.accepted, times.responses),
            settled_per_second: per_second(settled, times.settlement),
            latency: Latency::from(&tally.latency),
            cpu_micros_per_request: times.processor.as_secs_f64() * 1e6
                / number(tally.requests.max(1)),
        }
    }

    /// Whether every movement was accepted, and every accepted one settled.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.unexpected == 0 && self.pending == 0 && self.settled >= self.accepted
    }
}

#[expect(clippy::as_conversions, reason = "counts here are far below 2^53")]
const fn number(count: u64) -> f64 {
    count as f64
}
