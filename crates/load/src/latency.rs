//! How long requests took.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Percentiles, in milliseconds; exact to three digits.
///
/// In an open loop each is from when the request was due, so that a stall
/// counts for every request that it held up (no coordinated omission). A closed
/// loop has no times at which requests are due: its latency is what one of so
/// many clients waits, and says nothing of one that comes by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Latency {
    /// Half of all took no longer.
    pub p50: f64,
    /// Nine of ten.
    pub p90: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1,000.
    pub p99_9: f64,
    /// The longest.
    pub max: f64,
}

impl From<&Histogram<u64>> for Latency {
    fn from(micros: &Histogram<u64>) -> Self {
        let milliseconds = |micros| Duration::from_micros(micros).as_secs_f64() * 1000.0;
        let at = |quantile| milliseconds(micros.value_at_quantile(quantile));
        Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max: milliseconds(micros.max()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_milliseconds() {
        let mut micros = Histogram::new(3).unwrap();
        for value in 1..=1000_u64 {
            micros.record(value * 1000).unwrap();
        }
        let latency = Latency::from(&micros);
        for (is, expected) in [
            (latency.p50, 500.0),
            (latency.p90, 900.0),
            (latency.p99, 990.0),
            (latency.max, 1000.0),
        ] {
            assert!((is - expected).abs() < expected / 500.0, "{latency:?}");
        }
    }
}
