//! What all clients together have counted.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use hdrhistogram::Histogram;

use crate::{Shape, connection::Received};

/// Different answers kept of those that nobody expected.
const SAMPLES: usize = 5;
/// Of each, so many bytes.
const SAMPLE_BYTES: usize = 300;
/// What takes longer counts as this long.
const LONGEST_MICROS: u64 = 600_000_000;
/// Counted under this status: no answer came at all.
const NO_ANSWER: u16 = 0;

/// Counts answers.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Microseconds of each request that was answered as it should be.
    pub(crate) latency: Histogram<u64>,
    pub(crate) requests: u64,
    /// Requests by status.
    pub(crate) statuses: BTreeMap<u16, u64>,
    /// Movements whose acceptance was answered.
    pub(crate) accepted: u64,
    /// Movements whose answer was a settled record.
    pub(crate) told: u64,
    /// Requests, or items of a batch, with another outcome than that.
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
            told: 0,
            unexpected: 0,
            samples: Vec::new(),
        })
    }

    /// An answer came after so long.
    pub(crate) fn answered(&mut self, shape: Shape, answer: Received<'_>, took: Duration) {
        self.requests += 1;
        *self.statuses.entry(answer.status).or_default() += 1;
        let expected = match shape {
            Shape::Single => matches!(answer.status, 200 | 202),
            Shape::Batch(_) => answer.status == 200,
        };
        if !expected {
            self.odd(format!("{} {}", answer.status, text(answer.body)));
            return;
        }
        let asked = u64::from(shape.movements());
        let accepted = match shape {
            Shape::Single => 1,
            Shape::Batch(_) => count(answer.body, br#""recordId":""#).min(asked),
        };
        self.accepted += accepted;
        match shape {
            Shape::Single if answer.status == 200 => self.told += 1,
            Shape::Batch(_) if accepted < asked => {
                self.odd(format!("{accepted} of {asked} were accepted: {}", text(answer.body)));
                self.unexpected += asked - accepted - 1;
            }
            _ => {}
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.latency.saturating_record(micros);
    }

    /// No answer came.
    pub(crate) fn failed(&mut self, error: &std::io::Error) {
        self.requests += 1;
        *self.statuses.entry(NO_ANSWER).or_default() += 1;
        self.odd(format!("no answer: {error}"));
    }

    fn odd(&mut self, sample: String) {
        self.unexpected += 1;
        if self.samples.len() < SAMPLES && !self.samples.contains(&sample) {
            self.samples.push(sample);
        }
    }
}

fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body.get(..SAMPLE_BYTES).unwrap_or(body)).into_owned()
}

fn count(bytes: &[u8], part: &[u8]) -> u64 {
    bytes.windows(part.len()).map(|window| u64::from(window == part)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_acceptance_is_counted_and_shown() {
        let mut tally = Tally::new().unwrap();
        let soon = Duration::from_millis(1);
        let mut answer = |shape, status, body| {
            tally.answered(shape, Received { status, body }, soon);
        };
        answer(Shape::Single, 202, b"{}");
        answer(Shape::Single, 200, b"{}");
        answer(Shape::Single, 503, b"too much");
        answer(Shape::Single, 503, b"too much");
        answer(Shape::Batch(3), 200, br#"{"items":[{"recordId":"a"},{"type":"/problems/x"},{}]}"#);
        assert_eq!((tally.requests, tally.accepted, tally.told), (5, 3, 1));
        assert_eq!(tally.unexpected, 2 + 2);
        assert_eq!(tally.statuses, BTreeMap::from([(200, 2), (202, 1), (503, 2)]));
        assert_eq!(tally.samples.len(), 2);
        assert_eq!(tally.samples[0], "503 too much");
        assert_eq!((tally.latency.len(), tally.latency.max()), (3, 1000));
    }
}
