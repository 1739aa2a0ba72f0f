//! The latency of requests.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Percentiles of the latency, in milliseconds, exact to three digits.
///
/// In an open loop, latency counts from the due time of a request. A stall then
/// counts for every request delayed by it (no coordinated omission). In a closed
/// loop, requests have no due times. Its latency is the wait of one client among
/// all, and says nothing about a single client on its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Latency {
    /// The median.
    pub p50: f64,
    /// The 90th percentile.
    pub p90: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The 99.9th percentile.
    pub p99_9: f64,
    /// The maximum.
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
        for (measured, expected) in [
            (latency.p50, 500.0),
            (latency.p90, 900.0),
            (latency.p99, 990.0),
            (latency.max, 1000.0),
        ] {
            assert!((measured - expected).abs() < expected / 500.0, "{latency:?}");
        }
    }
}
