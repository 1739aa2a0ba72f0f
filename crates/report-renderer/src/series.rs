//! The volumes of each currency over time, in steps that fit a chart: days for up to
//! two months, months for up to five years, else years.

use std::collections::BTreeMap;

use contract::Kind;
use report_document::{DayVolume, Period, Volume};
use rust_decimal::Decimal;
use time::Date;

/// Steps of days, months or years.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Day,
    Month,
    Year,
}

impl Step {
    /// Steps of days for at most this many days, of months for as many months.
    const LIMIT: usize = 62;

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
            Self::Year => "year",
        }
    }

    /// The characters of `2026-03-29` that name a step.
    const fn prefix(self) -> usize {
        match self {
            Self::Day => 10,
            Self::Month => 7,
            Self::Year => 4,
        }
    }
}

/// Deposits and withdrawals of one step.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Point {
    pub(crate) deposits: (u64, Decimal),
    pub(crate) withdrawals: (u64, Decimal),
}

impl Point {
    pub(crate) fn add(&mut self, kind: Kind, count: u64, amount: Decimal) {
        let (counts, amounts) = match kind {
            Kind::Deposit => (&mut self.deposits.0, &mut self.deposits.1),
            Kind::Withdrawal => (&mut self.withdrawals.0, &mut self.withdrawals.1),
        };
        *counts = counts.saturating_add(count);
        *amounts = amounts.saturating_add(amount);
    }
}

/// The volumes of one currency.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) currency: String,
    /// Every step of the period with its name, also the empty ones.
    pub(crate) points: Vec<(String, Point)>,
}

/// The volumes of all types, by currency.
pub(crate) fn by_currency(totals: &[Volume]) -> BTreeMap<&str, Point> {
    let mut currencies: BTreeMap<&str, Point> = BTreeMap::new();
    for total in totals {
        let point = currencies.entry(&total.currency).or_default();
        point.add(total.r#type, total.count, total.amount);
    }
    currencies
}

/// The steps of a period, and a series for each currency.
pub(crate) fn series(period: &Period, days: &[DayVolume]) -> (Step, Vec<Series>) {
    let (step, names) = steps(period);
    let mut by_currency: BTreeMap<&str, BTreeMap<&str, Point>> = BTreeMap::new();
    for DayVolume { day, volume } in days {
        let name = day.get(..step.prefix()).unwrap_or(day);
        let points = by_currency.entry(&volume.currency).or_default();
        points.entry(name).or_default().add(volume.r#type, volume.count, volume.amount);
    }
    let series = by_currency.into_iter().map(|(currency, mut points)| {
        let amounts = points.values().flat_map(|point| [point.deposits.1, point.withdrawals.1]);
        let scale = amounts.map(|amount| amount.scale()).max().unwrap_or_default();
        for name in &names {
            points.entry(name).or_default();
        }
        for point in points.values_mut() {
            point.deposits.1.rescale(scale);
            point.withdrawals.1.rescale(scale);
        }
        let points = points.into_iter().map(|(name, point)| (name.to_owned(), point)).collect();
        Series { currency: currency.to_owned(), points }
    });
    (step, series.collect())
}

/// The names of all steps in a period.
fn steps(period: &Period) -> (Step, Vec<String>) {
    let first = period.from.date();
    let last = (period.to - time::Duration::NANOSECOND).date();
    for step in [Step::Day, Step::Month] {
        let names = names(first, last, step, Step::LIMIT.saturating_add(1));
        if names.len() <= Step::LIMIT {
            return (step, names);
        }
    }
    (Step::Year, names(first, last, Step::Year, usize::MAX))
}

fn names(first: Date, last: Date, step: Step, limit: usize) -> Vec<String> {
    let next = |date: &Date| match step {
        Step::Day => date.next_day(),
        Step::Month => {
            let in_next = date.replace_day(28).ok()? + time::Duration::days(4);
            in_next.replace_day(1).ok()
        }
        Step::Year => Date::from_ordinal_date(date.year() + 1, 1).ok(),
    };
    std::iter::successors(Some(first), next)
        .take_while(|date| *date <= last)
        .take(limit)
        .map(|date| date.to_string().get(..step.prefix()).unwrap_or_default().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use time::{OffsetDateTime, format_description::well_known::Rfc3339};

    use super::*;

    fn period(from: &str, to: &str) -> Period {
        let at = |text: &str| OffsetDateTime::parse(text, &Rfc3339).unwrap();
        Period { from: at(from), to: at(to), time_zone: "UTC".to_owned() }
    }

    #[test]
    fn the_steps_fit_the_length_of_the_period() {
        for (to, step, count, last) in [
            ("2026-01-02T00:00:00Z", Step::Day, 1, "2026-01-01"),
            ("2026-03-04T00:00:00Z", Step::Day, 62, "2026-03-03"),
            ("2026-03-05T00:00:00Z", Step::Month, 3, "2026-03"),
            ("2031-03-01T00:00:00Z", Step::Month, 62, "2031-02"),
            ("2031-03-02T00:00:00Z", Step::Year, 6, "2031"),
            ("2526-01-01T00:00:00Z", Step::Year, 500, "2525"),
        ] {
            let (actual, names) = steps(&period("2026-01-01T00:00:00Z", to));
            assert_eq!((actual, names.len()), (step, count), "{to}");
            assert_eq!(names.last().unwrap(), last);
        }
    }

    #[test]
    fn a_month_is_the_sum_of_its_days() {
        let volume = |day: &str, amount| DayVolume {
            day: day.to_owned(),
            volume: Volume {
                currency: "KRW".to_owned(),
                r#type: Kind::Deposit,
                count: 2,
                amount: Decimal::new(amount, 0),
            },
        };
        let days = [volume("2026-01-31", 5), volume("2026-03-01", 7), volume("2026-03-02", 8)];
        let (_, series) = series(&period("2026-01-01T00:00:00Z", "2026-06-01T00:00:00Z"), &days);
        let sums: Vec<_> = series[0].points.iter().map(|(_, point)| point.deposits).collect();
        let sum = |count, amount| (count, Decimal::new(amount, 0));
        assert_eq!(sums, [sum(2, 5), sum(0, 0), sum(4, 15), sum(0, 0), sum(0, 0)]);
    }
}
