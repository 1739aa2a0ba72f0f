//! The values of a repeated measurement.

use serde::{Deserialize, Serialize};

/// All values of a figure, in the order of their measurement.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Runs(Vec<f64>);

impl Runs {
    pub(crate) fn add(&mut self, figure: f64) {
        self.0.push(figure);
    }

    pub(crate) fn extend(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    /// The median; 0 without values.
    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let value = |index: usize| sorted.get(index).copied().unwrap_or_default();
        if sorted.len().is_multiple_of(2) && middle > 0 {
            f64::midpoint(value(middle - 1), value(middle))
        } else {
            value(middle)
        }
    }

    /// The lowest and the highest value; zeros without values.
    pub(crate) fn range(&self) -> (f64, f64) {
        let lowest = self.0.iter().copied().fold(f64::INFINITY, f64::min);
        (lowest.min(self.median()), self.0.iter().copied().fold(self.median(), f64::max))
    }
}

impl FromIterator<f64> for Runs {
    fn from_iter<T: IntoIterator<Item = f64>>(figures: T) -> Self {
        Self(figures.into_iter().collect())
    }
}

#[expect(clippy::as_conversions, reason = "counts here are far below 2^53")]
pub(crate) const fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_value() {
        let runs = |figures: &[f64]| Runs::from_iter(figures.iter().copied());
        assert!(runs(&[]).median().abs() < f64::EPSILON);
        for (figures, median, range) in [
            (&[5.0][..], 5.0, (5.0, 5.0)),
            (&[9.0, 1.0, 2.0], 2.0, (1.0, 9.0)),
            (&[4.0, 1.0, 2.0, 8.0], 3.0, (1.0, 8.0)),
        ] {
            assert!((runs(figures).median() - median).abs() < f64::EPSILON);
            assert_eq!(runs(figures).range(), range);
        }
    }
}
