//! The counts of all clients together.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use hdrhistogram::Histogram;

use crate::{Shape, connection::HttpResponse};

/// Maximum number of samples of unexpected responses.
const SAMPLES: usize = 5;
/// Maximum bytes of the body in a sample.
const SAMPLE_BYTES: usize = 300;
/// Maximum latency. Longer requests count with this latency.
const LONGEST_MICROS: u64 = 600_000_000;
/// The status of a request without a response.
const NO_RESPONSE: u16 = 0;

#[derive(Debug)]
pub(crate) struct Tally {
    /// Latency of the expected responses, in microseconds.
    pub(crate) latency: Histogram<u64>,
    pub(crate) requests: u64,
    /// Requests by status.
    pub(crate) statuses: BTreeMap<u16, u64>,
    /// Movements whose acceptance was confirmed.
    pub(crate) accepted: u64,
    /// Movements with the settled record in the response.
    pub(crate) settled_in_response: u64,
    /// Requests, or items of batches, without an acceptance.
    pub(crate) unexpected: u64,
    pub(crate) samples: Vec<String>,
}

impl Tally {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            latency: Histogram::new_with_max(LONGEST_MICROS, 3)?,
            requests: 0,
            statuses: BTreeMap::new(),
            accepted: 0,
            settled_in_response: 0,
            unexpected: 0,
            samples: Vec::new(),
        })
    }

    pub(crate) fn record_response(
        &mut self,
        shape: Shape,
        response: HttpResponse<'_>,
        latency: Duration,
    ) {
        self.requests += 1;
        *self.statuses.entry(response.status).or_default() += 1;
        let expected = match shape {
            Shape::Single => matches!(response.status, 200 | 202),
            Shape::Batch(_) => response.status == 200,
        };
        if !expected {
            self.record_unexpected(format!("{} {}", response.status, text(response.body)));
            return;
        }
        let requested = u64::from(shape.movements());
        let accepted = match shape {
            Shape::Single => 1,
            Shape::Batch(_) => count(response.body, br#""recordId":""#).min(requested),
        };
        self.accepted += accepted;
        match shape {
            Shape::Single if response.status == 200 => self.settled_in_response += 1,
            Shape::Batch(_) if accepted < requested => {
                self.record_unexpected(format!(
                    "{accepted} of {requested} items were accepted: {}",
                    text(response.body)
                ));
                self.unexpected += requested - accepted - 1;
            }
            _ => {}
        }
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.latency.saturating_record(micros);
    }

    pub(crate) fn record_failure(&mut self, error: &std::io::Error) {
        self.requests += 1;
        *self.statuses.entry(NO_RESPONSE).or_default() += 1;
        self.record_unexpected(format!("no response: {error}"));
    }

    fn record_unexpected(&mut self, sample: String) {
        self.unexpected += 1;
        if self.samples.len() < SAMPLES && !self.samples.contains(&sample) {
            self.samples.push(sample);
        }
    }
}

fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body.get(..SAMPLE_BYTES).unwrap_or(body)).into_owned()
}

fn count(bytes: &[u8], pattern: &[u8]) -> u64 {
    bytes.windows(pattern.len()).map(|window| u64::from(window == pattern)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unexpected_responses_are_counted_and_sampled() {
        let mut tally = Tally::new().unwrap();
        let latency = Duration::from_millis(1);
        let mut respond = |shape, status, body| {
            tally.record_response(shape, HttpResponse { status, body }, latency);
        };
        respond(Shape::Single, 202, b"{}");
        respond(Shape::Single, 200, b"{}");
        respond(Shape::Single, 503, b"too much");
        respond(Shape::Single, 503, b"too much");
        respond(Shape::Batch(3), 200, br#"{"items":[{"recordId":"a"},{"type":"/problems/x"},{}]}"#);
        assert_eq!((tally.requests, tally.accepted, tally.settled_in_response), (5, 3, 1));
        assert_eq!(tally.unexpected, 2 + 2);
        assert_eq!(tally.statuses, BTreeMap::from([(200, 2), (202, 1), (503, 2)]));
        assert_eq!(tally.samples.len(), 2);
        assert_eq!(tally.samples[0], "503 too much");
        assert_eq!((tally.latency.len(), tally.latency.max()), (3, 1000));
    }
}
