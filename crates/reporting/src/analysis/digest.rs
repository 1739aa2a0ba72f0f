//! The figures that an analysis is about: those of the activity report without the
//! ids of accounts, records and transactions, and by month if the period is long.
//!
//! A language model is told the JSON form and nothing else.

use std::{collections::BTreeMap, fmt::Display};

use contract::Kind;
use report_document::{Activity, Volume};
use rust_decimal::Decimal;
use serde::{Serialize, Serializer};
use time::{Date, format_description::well_known::Rfc3339};

/// Days are told one by one up to this number of calendar days, else by month.
const MAX_DAYS: i64 = 92;
/// The number of unusual entries told.
const MAX_UNUSUAL: usize = 5;

/// The figures of an activity report, without ids.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Digest {
    pub(super) period: PeriodFigures,
    /// `day` or `month`: what a part of the period is.
    pub(super) parts: Part,
    /// Ordered by code.
    pub(super) currencies: Vec<CurrencyFigures>,
    pub(super) refusals: Vec<Refusals>,
    pub(super) unusual: Unusual,
    /// `None` if the period has no movements.
    pub(super) settlement: Option<Settlement>,
}

/// The period.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PeriodFigures {
    /// RFC 3339, with the offset of the time zone.
    pub(super) from: String,
    /// The first instant after the period.
    pub(super) to: String,
    pub(super) time_zone: String,
    #[serde(serialize_with = "text")]
    pub(super) first_day: Date,
    #[serde(serialize_with = "text")]
    pub(super) last_day: Date,
    pub(super) calendar_days: i64,
}

/// The length of a part of the period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Part {
    Day,
    Month,
}

/// Deposits and withdrawals in one currency.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CurrencyFigures {
    pub(super) currency: String,
    pub(super) deposits: Sum,
    pub(super) withdrawals: Sum,
    /// In order of time. Parts without movements are left out.
    pub(super) by_part: Vec<PartFigures>,
    /// The day with the most movements.
    pub(super) busiest_day: Option<DayFigures>,
    /// Largest first: `account 1` is the first.
    pub(super) largest_accounts: Vec<AccountFigures>,
}

/// A number of movements and the sum of their amounts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Sum {
    pub(super) count: u64,
    #[serde(serialize_with = "text")]
    pub(super) amount: Decimal,
}

/// A day or month: `2026-03-29` or `2026-03`.
#[derive(Debug, Serialize)]
pub(super) struct PartFigures {
    pub(super) part: String,
    pub(super) deposits: Sum,
    pub(super) withdrawals: Sum,
}

/// The movements of one day.
#[derive(Debug, Serialize)]
pub(super) struct DayFigures {
    #[serde(serialize_with = "text")]
    pub(super) day: Date,
    pub(super) deposits: Sum,
    pub(super) withdrawals: Sum,
}

/// An account without its id.
#[derive(Debug, Serialize)]
pub(super) struct AccountFigures {
    pub(super) rank: usize,
    pub(super) count: u64,
    #[serde(serialize_with = "text")]
    pub(super) deposits: Decimal,
    #[serde(serialize_with = "text")]
    pub(super) withdrawals: Decimal,
}

/// Refused movements.
#[derive(Debug, Serialize)]
pub(super) struct Refusals {
    pub(super) reason: String,
    pub(super) r#type: Kind,
    pub(super) count: u64,
}

/// Entries of unusual size.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Unusual {
    pub(super) method: String,
    pub(super) count: u64,
    /// Most unusual first.
    pub(super) most_unusual: Vec<UnusualFigures>,
}

/// An unusual entry without its ids.
#[derive(Debug, Serialize)]
pub(super) struct UnusualFigures {
    pub(super) currency: String,
    pub(super) r#type: Kind,
    #[serde(serialize_with = "text")]
    pub(super) amount: Decimal,
    #[serde(serialize_with = "text")]
    pub(super) day: Date,
    pub(super) score: f64,
}

/// From the request to the decision, in milliseconds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Settlement {
    pub(super) count: u64,
    pub(super) p50_ms: u64,
    pub(super) p90_ms: u64,
    pub(super) p99_ms: u64,
    pub(super) max_ms: u64,
}

impl Sum {
    /// Both together.
    pub(super) fn plus(self, other: Self) -> Self {
        Self { count: self.count + other.count, amount: self.amount + other.amount }
    }

    fn add(&mut self, volume: &Volume) {
        *self = self.plus(Self { count: volume.count, amount: volume.amount });
    }
}

/// Deposits and withdrawals together.
pub(super) trait Both {
    fn deposits(&self) -> Sum;
    fn withdrawals(&self) -> Sum;

    fn both(&self) -> Sum {
        self.deposits().plus(self.withdrawals())
    }

    fn net(&self) -> Decimal {
        self.deposits().amount - self.withdrawals().amount
    }
}

macro_rules! both {
    ($($name:ident),*) => {
        $(impl Both for $name {
            fn deposits(&self) -> Sum {
                self.deposits
            }

            fn withdrawals(&self) -> Sum {
                self.withdrawals
            }
        })*
    };
}
both!(CurrencyFigures, PartFigures, DayFigures);

impl AccountFigures {
    /// The sum of all its amounts.
    pub(super) fn volume(&self) -> Decimal {
        self.deposits + self.withdrawals
    }
}

impl Digest {
    /// The figures of a report.
    pub(super) fn of(activity: &Activity) -> Self {
        let period = period(activity);
        let parts = if period.calendar_days <= MAX_DAYS { Part::Day } else { Part::Month };
        let mut codes: Vec<&str> =
            activity.totals.iter().map(|volume| volume.currency.as_str()).collect();
        codes.sort_unstable();
        codes.dedup();
        let settlement = &activity.settlement;
        Self {
            currencies: codes.into_iter().map(|code| currency(activity, code, parts)).collect(),
            refusals: activity
                .refusals
                .iter()
                .map(|refusal| Refusals {
                    reason: refusal.reason.clone(),
                    r#type: refusal.r#type,
                    count: refusal.count,
                })
                .collect(),
            unusual: unusual(activity),
            settlement: (settlement.count > 0).then_some(Settlement {
                count: settlement.count,
                p50_ms: settlement.p50_ms,
                p90_ms: settlement.p90_ms,
                p99_ms: settlement.p99_ms,
                max_ms: settlement.max_ms,
            }),
            period,
            parts,
        }
    }

    /// The number of applied movements.
    pub(super) fn applied(&self) -> u64 {
        self.currencies.iter().map(|currency| currency.both().count).sum()
    }

    /// The number of refused movements.
    pub(super) fn refused(&self) -> u64 {
        self.refusals.iter().map(|refusal| refusal.count).sum()
    }
}

fn period(activity: &Activity) -> PeriodFigures {
    let (from, to) = (activity.period.from, activity.period.to);
    let last = to - time::Duration::nanoseconds(1);
    let text = |at: time::OffsetDateTime| at.format(&Rfc3339).unwrap_or_default();
    PeriodFigures {
        from: text(from),
        to: text(to),
        time_zone: activity.period.time_zone.clone(),
        first_day: from.date(),
        last_day: last.date(),
        calendar_days: (last.date() - from.date()).whole_days() + 1,
    }
}

fn currency(activity: &Activity, code: &str, parts: Part) -> CurrencyFigures {
    let [mut deposits, mut withdrawals] = [Sum::default(); 2];
    for volume in activity.totals.iter().filter(|volume| volume.currency == code) {
        match volume.r#type {
            Kind::Deposit => deposits.add(volume),
            Kind::Withdrawal => withdrawals.add(volume),
        }
    }
    let mut by_day: BTreeMap<&str, [Sum; 2]> = BTreeMap::new();
    let mut by_part: BTreeMap<&str, [Sum; 2]> = BTreeMap::new();
    for day in activity.days.iter().filter(|day| day.volume.currency == code) {
        let part = match parts {
            Part::Day => day.day.as_str(),
            Part::Month => day.day.get(..7).unwrap_or_default(),
        };
        for sums in [by_day.entry(day.day.as_str()).or_default(), by_part.entry(part).or_default()]
        {
            let [deposits, withdrawals] = sums;
            match day.volume.r#type {
                Kind::Deposit => deposits.add(&day.volume),
                Kind::Withdrawal => withdrawals.add(&day.volume),
            }
        }
    }
    // The first of several days with the same number.
    let busiest = by_day
        .iter()
        .rev()
        .max_by_key(|(_, [deposits, withdrawals])| deposits.count + withdrawals.count);
    CurrencyFigures {
        currency: code.to_owned(),
        deposits,
        withdrawals,
        busiest_day: busiest.and_then(|(day, &[deposits, withdrawals])| {
            Some(DayFigures { day: parse_day(day)?, deposits, withdrawals })
        }),
        by_part: by_part
            .into_iter()
            .map(|(part, [deposits, withdrawals])| PartFigures {
                part: part.to_owned(),
                deposits,
                withdrawals,
            })
            .collect(),
        largest_accounts: activity
            .largest_accounts
            .iter()
            .filter(|account| account.currency == code)
            .enumerate()
            .map(|(at, account)| AccountFigures {
                rank: at + 1,
                count: account.count,
                deposits: account.credits,
                withdrawals: account.debits,
            })
            .collect(),
    }
}

fn unusual(activity: &Activity) -> Unusual {
    let entries = activity.unusual.items.iter().take(MAX_UNUSUAL);
    Unusual {
        method: activity.unusual.method.clone(),
        count: activity.unusual.count,
        most_unusual: entries
            .map(|entry| UnusualFigures {
                currency: entry.currency.clone(),
                r#type: entry.r#type,
                amount: entry.amount,
                day: entry.at.date(),
                score: entry.score,
            })
            .collect(),
    }
}

/// The date of `2026-03-29`.
pub(super) fn parse_day(text: &str) -> Option<Date> {
    let mut parts = text.splitn(3, '-');
    let year = parts.next()?.parse().ok()?;
    let month: u8 = parts.next()?.parse().ok()?;
    let day = parts.next()?.parse().ok()?;
    Date::from_calendar_date(year, time::Month::try_from(month).ok()?, day).ok()
}

fn text<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
