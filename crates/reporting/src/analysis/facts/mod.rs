//! The rule for numbers in an analysis: each must be in the figures.
//!
//! A number is accepted if it is one of these, rounded to the digits it shows (at
//! least two digits count, except in percentages):
//! - a figure of the [`Digest`]: counts, amounts, scores, settlement times, days;
//! - a sum: both types of a currency, a day or an account; all currencies (counts);
//!   all refusals, those of one reason, those of one type; applied and refused
//!   movements together; the listed accounts of a currency;
//! - a net amount: deposits less withdrawals of a currency, a part or an account;
//! - a difference between consecutive parts of the period, in numbers or percent,
//!   and the change from its first half to its second;
//! - a share in percent: of a type, a part or a listed account in its currency; of a
//!   currency, a reason or a type among all movements or refusals; of refused or
//!   applied movements among the decided ones; of unusual entries among the applied;
//! - an average: per movement, per calendar day, per day or month with movements;
//! - a number of things: days, currencies, reasons, types, listed accounts or entries;
//! - a date, month, year or time of the period, or of an unusual entry;
//! - a rank of a listed account; the percentiles 50, 90 and 99, which are also
//!   accepted in percent in a sentence with a duration.
//!
//! A number with a unit is compared with figures of that unit only. Signs are not
//! compared. Words are not checked: *rose* beside the right number of a fall passes.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use rust_decimal::{Decimal, prelude::FromPrimitive};
use time::{Date, Month};

use super::{
    digest::{AccountFigures, Both, CurrencyFigures, Digest, PartFigures, Sum},
    number::{self, Meaning, Number, Shown, Unit},
};

const PERCENTILES: [u32; 3] = [50, 90, 99];

/// The figures that a text may name.
#[derive(Debug, Default)]
pub(super) struct Facts {
    counts: BTreeSet<Decimal>,
    money: BTreeMap<String, BTreeSet<Decimal>>,
    percents: BTreeSet<Decimal>,
    /// Milliseconds.
    durations: BTreeSet<Decimal>,
    /// Scores, numbers of the method, years.
    others: BTreeSet<Decimal>,
    days: BTreeSet<Date>,
    /// Seconds since midnight.
    times: BTreeSet<u32>,
    max_rank: u32,
}

impl Facts {
    /// The figures of a digest, and those derived from them.
    pub(super) fn of(digest: &Digest) -> Self {
        let mut facts = Self::default();
        facts.add_calendar(digest);
        for currency in &digest.currencies {
            facts.add_currency(currency, digest);
        }
        facts.add_all_currencies(digest);
        facts.add_refusals(digest);
        facts.add_unusual(digest);
        if let Some(settlement) = &digest.settlement {
            facts.count(settlement.count);
            for figure in
                [settlement.p50_ms, settlement.p90_ms, settlement.p99_ms, settlement.max_ms]
            {
                facts.durations.insert(figure.into());
            }
        }
        facts
    }

    /// The numbers of a text that are not in the figures, in their order.
    pub(super) fn wrong_numbers(&self, text: &str) -> Vec<String> {
        let numbers = number::read(text);
        let with_duration: BTreeSet<usize> = numbers
            .iter()
            .filter(|number| matches!(number.meaning, Meaning::Quantity(_, Unit::Duration)))
            .map(|number| number.sentence)
            .collect();
        let is_label =
            |number: &Number| with_duration.contains(&number.sentence) && is_percentile(number);
        let wrong = numbers.iter().filter(|number| !self.has(number) && !is_label(number));
        wrong.map(|number| number.text.trim().to_owned()).collect()
    }

    fn has(&self, number: &Number) -> bool {
        match &number.meaning {
            Meaning::Quantity(shown, unit) => self.has_quantity(*shown, unit),
            Meaning::Day(day) => self.days.contains(day),
            Meaning::DayOfMonth(day, month) => {
                self.days.iter().any(|other| (other.day(), other.month()) == (*day, *month))
            }
            Meaning::Month(year, month) => self.has_month(*year, *month),
            Meaning::TimeOfDay(time) => self.times.contains(time),
            Meaning::Rank(rank) => (1..=self.max_rank).contains(rank),
            Meaning::Percentile(percentile) => {
                !self.durations.is_empty() && PERCENTILES.contains(percentile)
            }
            Meaning::Unreadable => false,
        }
    }

    fn has_quantity(&self, shown: Shown, unit: &Unit) -> bool {
        match unit {
            Unit::Count => any(&self.counts, shown),
            Unit::Percent => any(&self.percents, shown),
            Unit::Duration => any(&self.durations, shown),
            Unit::Money(code) => self.money.get(code).is_some_and(|figures| any(figures, shown)),
            Unit::Unknown => {
                any(&self.counts, shown)
                    || any(&self.others, shown)
                    || any(&self.durations, shown)
                    || self.money.values().any(|figures| any(figures, shown))
            }
        }
    }

    fn has_month(&self, year: i32, month: Month) -> bool {
        self.days.iter().any(|day| (day.year(), day.month()) == (year, month))
    }

    fn count(&mut self, count: u64) {
        self.counts.insert(count.into());
    }

    fn amount(&mut self, code: &str, amount: Decimal) {
        self.money.entry(code.to_owned()).or_default().insert(amount.abs());
    }

    fn share(&mut self, part: Decimal, whole: Decimal) {
        if let Some(ratio) = part.checked_div(whole)
            && let Some(percent) = ratio.checked_mul(Decimal::ONE_HUNDRED)
        {
            self.percents.insert(percent.abs());
        }
    }

    fn count_share(&mut self, part: u64, whole: u64) {
        self.share(part.into(), whole.into());
    }

    fn sum(&mut self, code: &str, sum: Sum) {
        self.count(sum.count);
        self.amount(code, sum.amount);
    }

    fn sum_share(&mut self, part: Sum, whole: Sum) {
        self.count_share(part.count, whole.count);
        self.share(part.amount, whole.amount);
    }

    /// The average of the amounts over a number of things.
    fn average(&mut self, code: &str, amount: Decimal, number: u64) {
        if let Some(average) = amount.checked_div(number.into()) {
            self.amount(code, average);
        }
    }

    fn add_calendar(&mut self, digest: &Digest) {
        let period = &digest.period;
        let mut day = Some(period.first_day);
        while let Some(next) = day.filter(|day| *day <= period.last_day) {
            self.days.insert(next);
            self.others.insert(next.year().into());
            day = next.next_day();
        }
        // The end that is not part of the period can be named too.
        for text in [&period.from, &period.to] {
            self.add_numbers_of(text);
        }
        self.counts.insert(period.calendar_days.into());
    }

    /// Makes the dates, times and quantities of one of our own texts known.
    fn add_numbers_of(&mut self, text: &str) {
        for number in number::read(text) {
            match number.meaning {
                Meaning::Day(day) => {
                    self.days.insert(day);
                }
                Meaning::TimeOfDay(time) => {
                    self.times.insert(time);
                }
                Meaning::Quantity(shown, Unit::Unknown | Unit::Count) => {
                    self.others.insert(shown.value);
                }
                Meaning::Quantity(shown, Unit::Percent) => {
                    self.percents.insert(shown.value);
                }
                _ => {}
            }
        }
    }

    fn add_currency(&mut self, figures: &CurrencyFigures, digest: &Digest) {
        let code = figures.currency.as_str();
        let whole = figures.both();
        let days = u64::try_from(digest.period.calendar_days).unwrap_or(0);
        let parts = u64::try_from(figures.by_part.len()).unwrap_or(0);
        self.count(parts);
        self.amount(code, figures.net());
        for sum in [figures.deposits, figures.withdrawals, whole] {
            self.sum(code, sum);
            self.sum_share(sum, whole);
            self.average(code, sum.amount, sum.count);
            for number in [days, parts] {
                self.average(code, sum.amount, number);
                self.average_count(sum.count, number);
            }
        }
        self.add_parts(code, &figures.by_part, figures);
        if let Some(day) = &figures.busiest_day {
            self.add_part(code, day, figures);
        }
        self.add_accounts(code, &figures.largest_accounts, whole.amount);
    }

    fn average_count(&mut self, count: u64, number: u64) {
        if let Some(average) = Decimal::from(count).checked_div(number.into()) {
            self.counts.insert(average);
        }
    }

    fn add_parts(&mut self, code: &str, parts: &[PartFigures], whole: &CurrencyFigures) {
        for part in parts {
            self.add_part(code, part, whole);
        }
        for (before, after) in parts.iter().zip(parts.iter().skip(1)) {
            self.add_change(code, before, after);
        }
        if let Some([first, second]) = halves(parts) {
            self.sum(code, first);
            self.sum(code, second);
            self.change(code, first, second);
        }
    }

    fn add_part(&mut self, code: &str, part: &impl Both, whole: &CurrencyFigures) {
        self.amount(code, part.net());
        for (sum, of) in [
            (part.deposits(), whole.deposits()),
            (part.withdrawals(), whole.withdrawals()),
            (part.both(), whole.both()),
        ] {
            self.sum(code, sum);
            self.sum_share(sum, of);
            self.average(code, sum.amount, sum.count);
        }
    }

    fn add_change(&mut self, code: &str, before: &impl Both, after: &impl Both) {
        self.change(code, before.deposits(), after.deposits());
        self.change(code, before.withdrawals(), after.withdrawals());
        self.change(code, before.both(), after.both());
    }

    fn change(&mut self, code: &str, before: Sum, after: Sum) {
        self.count(after.count.abs_diff(before.count));
        self.amount(code, after.amount - before.amount);
        self.share(after.amount - before.amount, before.amount);
        self.count_share(after.count.abs_diff(before.count), before.count);
    }

    fn add_accounts(&mut self, code: &str, accounts: &[AccountFigures], whole: Decimal) {
        self.max_rank = self.max_rank.max(u32::try_from(accounts.len()).unwrap_or(u32::MAX));
        self.counts.insert(accounts.len().into());
        let (mut count, mut volume) = (0, Decimal::ZERO);
        for account in accounts {
            count += account.count;
            volume += account.volume();
            self.count(account.count);
            for amount in [
                account.deposits,
                account.withdrawals,
                account.deposits - account.withdrawals,
                account.volume(),
            ] {
                self.amount(code, amount);
            }
            self.share(account.volume(), whole);
        }
        self.count(count);
        self.amount(code, volume);
        self.share(volume, whole);
    }

    fn add_all_currencies(&mut self, digest: &Digest) {
        self.counts.insert(digest.currencies.len().into());
        self.counts.insert(Decimal::TWO);
        let (applied, refused) = (digest.applied(), digest.refused());
        for count in [applied, refused, applied + refused] {
            self.count(count);
            self.count_share(count, applied + refused);
        }
        self.average_count(applied, u64::try_from(digest.period.calendar_days).unwrap_or(0));
        let [mut deposits, mut withdrawals] = [0, 0];
        let mut by_part: BTreeMap<&str, u64> = BTreeMap::new();
        for currency in &digest.currencies {
            self.count_share(currency.both().count, applied);
            deposits += currency.deposits.count;
            withdrawals += currency.withdrawals.count;
            for part in &currency.by_part {
                *by_part.entry(&part.part).or_default() += part.both().count;
            }
        }
        for count in [deposits, withdrawals].into_iter().chain(by_part.values().copied()) {
            self.count(count);
            self.count_share(count, applied);
        }
        self.counts.insert(by_part.len().into());
        let counts: Vec<u64> = by_part.into_values().collect();
        for (before, after) in counts.iter().zip(counts.iter().skip(1)) {
            self.count(after.abs_diff(*before));
            self.count_share(after.abs_diff(*before), *before);
        }
    }

    fn add_refusals(&mut self, digest: &Digest) {
        let refused = digest.refused();
        let decided = digest.applied() + refused;
        let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
        for refusal in &digest.refusals {
            self.count(refusal.count);
            self.count_share(refusal.count, refused);
            self.count_share(refusal.count, decided);
            *sums.entry(&refusal.reason).or_default() += refusal.count;
        }
        self.counts.insert(sums.len().into());
        for refusal in &digest.refusals {
            *sums.entry(refusal.r#type.as_str()).or_default() += refusal.count;
        }
        for count in sums.into_values() {
            self.count(count);
            self.count_share(count, refused);
            self.count_share(count, decided);
        }
    }

    fn add_unusual(&mut self, digest: &Digest) {
        let unusual = &digest.unusual;
        self.count(unusual.count);
        self.count_share(unusual.count, digest.applied());
        self.counts.insert(unusual.most_unusual.len().into());
        self.add_numbers_of(&unusual.method);
        for entry in &unusual.most_unusual {
            self.amount(&entry.currency, entry.amount);
            self.days.insert(entry.day);
            self.others.extend(Decimal::from_f64(entry.score));
        }
    }
}

fn any(figures: &BTreeSet<Decimal>, shown: Shown) -> bool {
    let least = shown.value - shown.tolerance;
    let greatest = shown.value + shown.tolerance;
    figures.range(least..=greatest).any(|figure| shown.matches(*figure))
}

fn is_percentile(number: &Number) -> bool {
    let Meaning::Quantity(shown, Unit::Percent) = &number.meaning else { return false };
    PERCENTILES.iter().any(|percentile| shown.value == Decimal::from(*percentile))
}

/// The sums of the first and the second half of the parts. The middle one of an odd
/// number is in neither.
pub(super) fn halves(parts: &[PartFigures]) -> Option<[Sum; 2]> {
    let half = parts.len() / 2;
    let sum = |parts: &[PartFigures]| {
        parts.iter().fold(Sum::default(), |sum, part| sum.plus(part.both()))
    };
    let first = parts.get(..half).filter(|parts| !parts.is_empty())?;
    let second = parts.get(parts.len() - half..)?;
    Some([sum(first), sum(second)])
}
