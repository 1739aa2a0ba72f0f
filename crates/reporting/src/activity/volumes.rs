//! Applied movements by day, currency and type; refused ones by reason and type.

use std::collections::BTreeMap;

use contract::Kind;
use report_document::{DayVolume, RefusalCount, Volume};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{row::Row, units::Units};
use crate::Period;

/// The codes of the currencies seen so far. Other figures name a currency by its
/// position here.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Currencies(Vec<String>);

impl Currencies {
    /// The position of a code, which is added if it is new.
    pub(super) fn position(&mut self, code: &str) -> u16 {
        let at = self.0.iter().position(|known| known == code).unwrap_or_else(|| {
            self.0.push(code.to_owned());
            self.0.len() - 1
        });
        // There are fewer than 200 codes.
        u16::try_from(at).unwrap_or(u16::MAX)
    }

    /// The position of a code that was seen.
    pub(super) fn find(&self, code: &str) -> Option<u16> {
        self.0.iter().position(|known| known == code).and_then(|at| u16::try_from(at).ok())
    }

    /// The code at a position.
    pub(super) fn code(&self, position: u16) -> &str {
        self.0.get(usize::from(position)).map_or("", String::as_str)
    }
}

/// The days of a period, for fast look-ups.
#[derive(Debug)]
pub(super) struct Days {
    starts: Vec<OffsetDateTime>,
    names: Vec<String>,
}

impl Days {
    pub(super) fn of(period: &Period) -> Self {
        let (starts, names) = period.days().map(|day| (day.from, day.date)).unzip();
        Self { starts, names }
    }

    /// The position of the day of an instant in the period.
    fn position(&self, at: OffsetDateTime) -> usize {
        self.starts.partition_point(|start| *start <= at).saturating_sub(1)
    }
}

/// A number of movements and the sum of their amounts.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Sum(u64, Units);

/// Day, currency and type: deposits first.
type Key = (usize, u16, bool);

/// The counted movements.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Volumes {
    #[serde(with = "pairs")]
    applied: BTreeMap<Key, Sum>,
    #[serde(with = "pairs")]
    refused: BTreeMap<(String, bool), u64>,
}

impl Volumes {
    /// Counts a movement.
    pub(super) fn add(&mut self, row: &Row, currency: u16, days: &Days) {
        let is_withdrawal = row.kind == Kind::Withdrawal;
        if let Some(reason) = &row.refusal {
            *self.refused.entry((reason.clone(), is_withdrawal)).or_default() += 1;
            return;
        }
        let day = days.position(row.created_at);
        let sum = self.applied.entry((day, currency, is_withdrawal)).or_default();
        sum.0 += 1;
        sum.1 += row.amount;
    }

    /// By day, type and currency.
    pub(super) fn days(&self, days: &Days, currencies: &Currencies) -> Vec<DayVolume> {
        let mut volumes: Vec<DayVolume> = self
            .applied
            .iter()
            .map(|(&(day, currency, is_withdrawal), &sum)| DayVolume {
                day: days.names.get(day).cloned().unwrap_or_default(),
                volume: volume(currencies.code(currency), is_withdrawal, sum),
            })
            .collect();
        volumes.sort_by(|a, b| (&a.day, order(&a.volume)).cmp(&(&b.day, order(&b.volume))));
        volumes
    }

    /// By type and currency.
    pub(super) fn totals(&self, currencies: &Currencies) -> Vec<Volume> {
        let mut sums: BTreeMap<(u16, bool), Sum> = BTreeMap::new();
        for (&(_, currency, is_withdrawal), sum) in &self.applied {
            let total = sums.entry((currency, is_withdrawal)).or_default();
            total.0 += sum.0;
            total.1 += sum.1;
        }
        let mut totals: Vec<Volume> = sums
            .into_iter()
            .map(|((currency, is_withdrawal), sum)| {
                volume(currencies.code(currency), is_withdrawal, sum)
            })
            .collect();
        totals.sort_by(|a, b| order(a).cmp(&order(b)));
        totals
    }

    /// By reason and type.
    pub(super) fn refusals(&self) -> Vec<RefusalCount> {
        let refusals = self.refused.iter();
        refusals
            .map(|((reason, is_withdrawal), &count)| RefusalCount {
                reason: reason.clone(),
                r#type: kind(*is_withdrawal),
                count,
            })
            .collect()
    }
}

const fn kind(is_withdrawal: bool) -> Kind {
    if is_withdrawal { Kind::Withdrawal } else { Kind::Deposit }
}

fn volume(code: &str, is_withdrawal: bool, sum: Sum) -> Volume {
    Volume {
        currency: code.to_owned(),
        r#type: kind(is_withdrawal),
        count: sum.0,
        amount: sum.1.amount(code),
    }
}

fn order(volume: &Volume) -> (&'static str, &str) {
    (volume.r#type.as_str(), &volume.currency)
}

/// Maps whose keys are no strings, as pairs in JSON.
pub(super) mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(in crate::activity) fn serialize<K, V, S>(
        map: &BTreeMap<K, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error>
    where
        K: Serialize,
        V: Serialize,
        S: Serializer,
    {
        serializer.collect_seq(map)
    }

    pub(in crate::activity) fn deserialize<'de, K, V, D>(
        deserializer: D,
    ) -> Result<BTreeMap<K, V>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Ok(Vec::<(K, V)>::deserialize(deserializer)?.into_iter().collect())
    }
}
