//! The usual amounts of a currency and type, and the entries far above them.
//!
//! The method is the modified z-score of Iglewicz and Hoaglin ("How to Detect and Handle
//! Outliers", 1993) on the logarithm of the amount, because amounts are spread over
//! powers of ten: 0.6745 × (log amount − median) / MAD, where MAD is the median of the
//! absolute deviations from the median. Median and MAD hardly change if a part of the
//! amounts is extreme, unlike mean and standard deviation. Their limit of 3.5 is used. If
//! half of the amounts are equal, MAD is zero; then 1.2533 times the mean deviation takes
//! the place of MAD / 0.6745, as they recommend.
//!
//! Only amounts above the usual ones are reported: tiny amounts are frequent, and harmless.
//!
//! Median and MAD are those of a histogram with bins of 0.5%, in bounded memory. MAD is at
//! least 1%: smaller differences are not unusual, and would be smaller than the bins.

use std::collections::BTreeMap;

use contract::{AccountId, Kind, RecordId, TransactionId};
use report_document::{UnusualEntries, UnusualEntry};
use rust_decimal::{
    Decimal,
    prelude::{FromPrimitive, ToPrimitive},
};
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, serde::rfc3339};

use super::{row::LargeRow, units::Units, volumes::pairs};
use crate::Period;

/// For readers of the report. Numbers are those of the constants below.
const METHOD: &str = "Modified z-score of Iglewicz and Hoaglin on the logarithm of the amount, for each \
    currency and type: 0.6745 × (log amount − median) / median absolute deviation. An entry is unusual if \
    its score is above 3.5; types with fewer than 20 entries in a currency are not judged.";
const LIMIT: f64 = 3.5;
const MIN_ENTRIES: u64 = 20;
/// Of a normal distribution: MAD, and the mean absolute deviation, of a standard deviation.
const MAD_FACTOR: f64 = 0.6745;
const MEAN_FACTOR: f64 = 1.2533;
/// Bins in a factor of e.
const BINS: f64 = 200.0;
/// The least MAD, in bins.
const MIN_MAD: f64 = 2.0;
/// The number of listed entries.
const MAX_LISTED: usize = 50;

/// The amounts of each currency and type, by the bin of their logarithm.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Amounts {
    #[serde(with = "pairs")]
    groups: BTreeMap<(u16, bool), Bins>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
struct Bins(#[serde(with = "pairs")] BTreeMap<i32, u64>);

/// Where the unusual amounts of a currency and type begin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Usual {
    pub(super) currency: u16,
    pub(super) is_withdrawal: bool,
    /// Of the logarithm.
    median: f64,
    /// A score of one is this far above the median.
    spread: f64,
}

impl Amounts {
    /// Counts an applied amount.
    pub(super) fn add(&mut self, currency: u16, kind: Kind, amount: Units) {
        let Some(bin) = log(amount).map(|log| (log * BINS).floor()).and_then(|bin| bin.to_i32())
        else {
            return;
        };
        let group = self.groups.entry((currency, kind == Kind::Withdrawal)).or_default();
        *group.0.entry(bin).or_default() += 1;
    }

    /// The usual amounts of the groups that can be judged.
    pub(super) fn usual(&self) -> Vec<Usual> {
        let groups = self.groups.iter();
        groups
            .filter_map(|(&(currency, is_withdrawal), bins)| {
                let (median, spread) = bins.median_and_spread()?;
                Some(Usual { currency, is_withdrawal, median, spread })
            })
            .collect()
    }
}

impl Bins {
    fn median_and_spread(&self) -> Option<(f64, f64)> {
        let count: u64 = self.0.values().sum();
        if count < MIN_ENTRIES {
            return None;
        }
        let median = median(self.0.iter().map(|(&bin, &count)| (i64::from(bin), count)), count)?;
        let mut deviations: BTreeMap<i64, u64> = BTreeMap::new();
        for (&bin, count) in &self.0 {
            *deviations.entry((i64::from(bin) - median).abs()).or_default() += count;
        }
        let mad = self::median(deviations.iter().map(|(&bin, &count)| (bin, count)), count)?;
        let spread = if mad > 0 {
            mad.to_f64()?.max(MIN_MAD) / MAD_FACTOR
        } else {
            let sum: i128 =
                deviations.iter().map(|(&bin, &count)| i128::from(bin) * i128::from(count)).sum();
            let mean = sum.to_f64()? / count.to_f64()?;
            (mean * MEAN_FACTOR).max(MIN_MAD / MAD_FACTOR)
        };
        Some(((median.to_f64()? + 0.5) / BINS, spread / BINS))
    }
}

/// The lower median of values in order, with their numbers.
fn median(values: impl Iterator<Item = (i64, u64)>, count: u64) -> Option<i64> {
    let mut before = 0;
    for (value, number) in values {
        before += number;
        if before * 2 >= count {
            return Some(value);
        }
    }
    None
}

impl Usual {
    /// Every unusual amount is above this one, and hardly any other is. `None` if no
    /// amount can be.
    pub(super) fn limit(&self) -> Option<Decimal> {
        let limit = (self.median + LIMIT * self.spread).exp() * (1.0 - 1e-6);
        let limit = Decimal::from_f64(limit).filter(|limit| *limit < contract::MONEY_LIMIT)?;
        Some(limit.trunc_with_scale(4))
    }

    /// How unusual an amount is, with two decimals.
    fn score(&self, amount: Units) -> Option<f64> {
        let score = (log(amount)? - self.median) / self.spread;
        (score > LIMIT).then(|| (score * 100.0).round() / 100.0)
    }
}

fn log(amount: Units) -> Option<f64> {
    Some((amount.get().to_f64()? / 10_000.0).ln()).filter(|log| log.is_finite())
}

/// The unusual entries found so far: their number, and the most unusual ones.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct UnusualFound {
    count: u64,
    listed: Vec<Listed>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Listed {
    score: f64,
    id: i64,
    record_id: RecordId,
    account_id: AccountId,
    is_withdrawal: bool,
    currency: String,
    amount: Units,
    #[serde(with = "rfc3339")]
    at: OffsetDateTime,
}

impl UnusualFound {
    /// Counts and lists the unusual ones of these rows.
    pub(super) fn add(&mut self, rows: &[LargeRow], usual: impl Fn(&LargeRow) -> Option<Usual>) {
        for row in rows {
            let Some(score) = usual(row).and_then(|usual| usual.score(row.amount)) else {
                continue;
            };
            self.count += 1;
            self.listed.push(Listed {
                score,
                id: row.id,
                record_id: RecordId::from_uuid(row.record_id),
                account_id: AccountId::from_uuid(row.account_id),
                is_withdrawal: row.kind == Kind::Withdrawal,
                currency: row.currency.clone(),
                amount: row.amount,
                at: row.created_at,
            });
            if self.listed.len() > MAX_LISTED * 4 {
                self.shorten();
            }
        }
        self.shorten();
    }

    fn shorten(&mut self) {
        self.listed.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.id.cmp(&b.id)));
        self.listed.truncate(MAX_LISTED);
    }

    /// The document's form.
    pub(super) fn figures(&self, period: &Period) -> UnusualEntries {
        let items = self.listed.iter().map(|entry| UnusualEntry {
            account_id: entry.account_id,
            transaction_id: TransactionId::of(entry.record_id),
            record_id: entry.record_id,
            r#type: if entry.is_withdrawal { Kind::Withdrawal } else { Kind::Deposit },
            currency: entry.currency.clone(),
            amount: entry.amount.amount(&entry.currency),
            at: period.local(entry.at),
            score: entry.score,
        });
        UnusualEntries { method: METHOD.to_owned(), count: self.count, items: items.collect() }
    }
}
