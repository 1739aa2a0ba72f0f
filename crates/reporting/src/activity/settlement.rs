//! The distribution of settlement times, in bounded memory.

use hdrhistogram::Histogram;
use report_document::SettlementTime;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// Longer times are counted as this one; the longest time is exact. Thirty days.
const MAX_MS: u64 = 30 * 24 * 3_600_000;
/// Significant digits of a percentile.
const DIGITS: u8 = 3;

/// Settlement times in milliseconds.
#[derive(Debug)]
pub(super) struct SettlementTimes {
    histogram: Histogram<u64>,
    max_ms: u64,
}

impl Default for SettlementTimes {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, MAX_MS, DIGITS);
        // The bounds are valid. Without them the histogram grows as needed.
        let histogram = histogram.unwrap_or_else(|_| Self::growing());
        Self { histogram, max_ms: 0 }
    }
}

impl SettlementTimes {
    fn growing() -> Histogram<u64> {
        #[expect(clippy::expect_used, reason = "three digits are valid")]
        Histogram::new(DIGITS).expect("three digits")
    }

    /// Counts a time.
    pub(super) fn add(&mut self, ms: u64) {
        self.histogram.saturating_record(ms);
        self.max_ms = self.max_ms.max(ms);
    }

    /// The percentiles, each with three significant digits.
    pub(super) fn figures(&self) -> SettlementTime {
        let at = |quantile| self.histogram.value_at_quantile(quantile).min(self.max_ms);
        SettlementTime {
            count: self.histogram.len(),
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            max_ms: self.max_ms,
        }
    }
}

/// The longest time, and the numbers of the recorded values.
#[derive(Serialize, Deserialize)]
struct Stored {
    max_ms: u64,
    counts: Vec<(u64, u64)>,
}

impl Serialize for SettlementTimes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let recorded = self.histogram.iter_recorded();
        let counts =
            recorded.map(|step| (step.value_iterated_to(), step.count_at_value())).collect();
        Stored { max_ms: self.max_ms, counts }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SettlementTimes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stored = Stored::deserialize(deserializer)?;
        let mut times = Self { max_ms: stored.max_ms, ..Self::default() };
        for (value, count) in stored.counts {
            times.histogram.record_n(value.min(MAX_MS), count).map_err(D::Error::custom)?;
        }
        Ok(times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_have_three_digits_and_the_longest_time_is_exact() {
        let mut times = SettlementTimes::default();
        (1..=100_000).for_each(|ms| times.add(ms));
        times.add(MAX_MS * 2 + 7);
        let figures = times.figures();
        assert_eq!((figures.count, figures.max_ms), (100_001, MAX_MS * 2 + 7));
        for (figure, exact) in
            [(figures.p50_ms, 50_000), (figures.p90_ms, 90_000), (figures.p99_ms, 99_000)]
        {
            assert!(figure.abs_diff(exact) * 1_000 <= exact, "{figure} {exact}");
        }
    }

    #[test]
    fn times_survive_their_json_form() {
        let mut times = SettlementTimes::default();
        for ms in [0, 0, 1, 38, 154, 2_643, 62_417, 999_999, MAX_MS * 3] {
            times.add(ms);
        }
        let json = serde_json::to_string(&times).unwrap();
        let mut read: SettlementTimes = serde_json::from_str(&json).unwrap();
        assert_eq!(read.figures(), times.figures());
        read.add(7);
        times.add(7);
        assert_eq!(read.figures(), times.figures());
        assert_eq!(serde_json::to_string(&read).unwrap(), serde_json::to_string(&times).unwrap());
    }
}
