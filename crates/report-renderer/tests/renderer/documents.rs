//! Documents for tests and measurements: no clock and no randomness.

use std::{fmt::Debug, io};

use contract::{AccountId, Kind, RecordId, TransactionId};
use report_document::{
    Activity, Analysis, AnalysisSource, Check, DayVolume, Entries, Entry, Finding, LargestAccount,
    Period, Position, Reconciliation, RefusalCount, SettlementTime, Statement, TEMPLATE, Total,
    UnusualEntries, UnusualEntry, Volume,
};
use rust_decimal::Decimal;
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

pub(crate) fn account(number: u128) -> AccountId {
    AccountId::from_uuid(Uuid::from_u128(0x0199_d4a2_7c1e_7b7a_9a55_0000_0000_0000 + number))
}

fn record(number: u128) -> RecordId {
    RecordId::from_uuid(Uuid::from_u128(0x0199_d4a2_7c1e_7b7a_8b66_0000_0000_0000 + number))
}

fn at(text: &str) -> OffsetDateTime {
    OffsetDateTime::parse(text, &Rfc3339).unwrap()
}

fn money(units: i64, exponent: u32) -> Decimal {
    Decimal::new(units, exponent)
}

pub(crate) fn period() -> Period {
    Period {
        from: at("2026-03-01T00:00:00+01:00"),
        to: at("2026-04-01T00:00:00+02:00"),
        time_zone: "Europe/Berlin".to_owned(),
    }
}

/// Entries that take no memory: the same numbers each time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MadeEntries {
    pub(crate) count: u64,
    pub(crate) exponent: u32,
    /// Added to every third deposit, in minor units.
    pub(crate) extra: i64,
}

const OPENING: i64 = 100_000_005;

/// Some entries have labels, which try to be formulas, rows and markup.
fn reference(n: i64) -> Option<&'static str> {
    match n % 7 {
        1 => Some("invoice 4711"),
        2 => Some("=SUM(A1:A9) \"x\""),
        3 => Some("a reference of more than the 35 characters of ISO 20022 <&> 한국"),
        _ => None,
    }
}

fn description(n: i64) -> Option<String> {
    match n % 7 {
        2 => Some("\u{ac00}\nENTRY,1,\"2\"\t</Ustrd>&".to_owned()),
        3 if n < 10 => Some("A long description of a payment. ".repeat(30).trim_end().to_owned()),
        4 => Some("+1 <b>bold</b>".to_owned()),
        _ => None,
    }
}

impl MadeEntries {
    fn iter(self) -> impl Iterator<Item = Entry> {
        let mut balance = OPENING;
        (1..=i64::try_from(self.count).unwrap()).map(move |n| {
            let (r#type, units) = match n % 3 {
                0 => (Kind::Withdrawal, 1_000 + n % 997),
                1 => (Kind::Deposit, 900 + n * 7 % 1_009 + self.extra),
                _ => (Kind::Deposit, 10_000 + n % 13),
            };
            balance += if r#type == Kind::Deposit { units } else { -units };
            let at = at("2026-03-29T01:59:00.123456+01:00") + Duration::milliseconds(n * 40);
            let offset = if n > 1_500 { 2 } else { 1 };
            let record_id = record(u128::try_from(n).unwrap());
            Entry {
                account_seq: 41 + n,
                transaction_id: TransactionId::of(record_id),
                record_id,
                r#type,
                amount: money(units, self.exponent),
                balance_after: money(balance, self.exponent),
                at: at.to_offset(time::UtcOffset::from_hms(offset, 0, 0).unwrap()),
                reference: reference(n).map(str::to_owned),
                description: description(n),
            }
        })
    }

    /// The statement with these entries.
    pub(crate) fn statement(self, currency: &str) -> Statement {
        let zero = Total { count: 0, amount: money(0, self.exponent) };
        let (mut credits, mut debits) = (zero, zero);
        let mut closing = Position { balance: money(OPENING, self.exponent), account_seq: 41 };
        let opening = closing;
        for entry in self.iter() {
            let total = match entry.r#type {
                Kind::Deposit => &mut credits,
                Kind::Withdrawal => &mut debits,
            };
            *total = Total { count: total.count + 1, amount: total.amount + entry.amount };
            closing = Position { balance: entry.balance_after, account_seq: entry.account_seq };
        }
        Statement {
            template: TEMPLATE,
            issuer: "Passbook Bank & Söhne <한국>".to_owned(),
            account_id: account(1),
            owner_id: "=ann@example.com".to_owned(),
            currency: currency.to_owned(),
            exponent: self.exponent,
            period: period(),
            opening,
            closing,
            credits,
            debits,
        }
    }
}

impl Entries for MadeEntries {
    fn open(&self) -> io::Result<Box<dyn Iterator<Item = io::Result<Entry>> + '_>> {
        Ok(Box::new(self.iter().map(Ok)))
    }
}

/// A month with two currencies, and texts that try to break out of markup.
pub(crate) fn activity() -> Activity {
    let volume = |currency: &str, r#type, count, units, exponent| Volume {
        currency: currency.to_owned(),
        r#type,
        count,
        amount: money(units, exponent),
    };
    let mut days = Vec::new();
    for day in (1..=31_i64).filter(|day| day % 7 != 1) {
        for (r#type, sign) in [(Kind::Deposit, 0), (Kind::Withdrawal, 1)] {
            for (currency, scale, exponent) in [("EUR", 100_000, 2), ("KRW", 3_100_000, 0)] {
                let wave = 40 + (day * 13 + sign * 29) % 37 + day / 3 - sign * 12;
                let count = u64::try_from(wave * 11).unwrap();
                let volume = volume(currency, r#type, count, wave * scale + day * 17, exponent);
                days.push(DayVolume { day: format!("2026-03-{day:02}"), volume });
            }
        }
    }
    let mut totals: Vec<Volume> = Vec::new();
    for r#type in Kind::ALL {
        for (currency, exponent) in [("EUR", 2), ("KRW", 0)] {
            let mut total = volume(currency, r#type, 0, 0, exponent);
            for day in &days {
                if day.volume.currency == currency && day.volume.r#type == r#type {
                    total.count += day.volume.count;
                    total.amount += day.volume.amount;
                }
            }
            totals.push(total);
        }
    }
    let applied: u64 = totals.iter().map(|total| total.count).sum();
    let refusals = vec![
        RefusalCount { reason: "ACCOUNT_CLOSED".to_owned(), r#type: Kind::Deposit, count: 12 },
        RefusalCount {
            reason: "INSUFFICIENT_FUNDS".to_owned(),
            r#type: Kind::Withdrawal,
            count: 1_431,
        },
    ];
    Activity {
        template: TEMPLATE,
        issuer: "Passbook Bank & Söhne <한국>".to_owned(),
        period: period(),
        settlement: SettlementTime {
            count: applied + 1_443,
            p50_ms: 18,
            p90_ms: 64,
            p99_ms: 412,
            max_ms: 61_250,
        },
        totals,
        days,
        refusals,
        largest_accounts: (0..10_i64)
            .map(|n| LargestAccount {
                currency: if n < 5 { "EUR" } else { "KRW" }.to_owned(),
                account_id: account(u128::try_from(n).unwrap()),
                count: 900 - u64::try_from(n % 5).unwrap() * 130,
                credits: money(19_000_000 / (n % 5 + 1), if n < 5 { 2 } else { 0 }),
                debits: money(12_000_000 / (n % 5 + 2), if n < 5 { 2 } else { 0 }),
            })
            .collect(),
        unusual: UnusualEntries {
            method: "An amount is compared with the amounts of the same currency and type: the \
                     score is its distance from the median, in median absolute deviations."
                .to_owned(),
            count: 37,
            items: (0..6_i64)
                .map(|n| UnusualEntry {
                    account_id: account(u128::try_from(n).unwrap()),
                    transaction_id: TransactionId::of(record(u128::try_from(n).unwrap())),
                    record_id: record(u128::try_from(n).unwrap()),
                    r#type: Kind::Deposit,
                    currency: if n % 2 == 0 { "EUR" } else { "KRW" }.to_owned(),
                    amount: money(425_000_000 / (n + 1), if n % 2 == 0 { 2 } else { 0 }),
                    at: at("2026-03-12T09:30:15.25+01:00") + Duration::hours(n * 31),
                    score: 48.25 / f64::from(i32::try_from(n).unwrap() + 1),
                })
                .collect(),
        },
        analysis: Some(Analysis {
            source: AnalysisSource::Model,
            model: Some("open-model-8b".to_owned()),
            note: None,
            paragraphs: vec![
                "Deposits exceeded withdrawals in both currencies. The busiest days were in the \
                 second half of the month, and no movements were made on the 1st, 8th, 15th, \
                 22nd and 29th."
                    .to_owned(),
                "</p><script>alert(1)</script> & <img src=x onerror=\"alert(2)\"> are shown as \
                 text. 1,431 withdrawals were refused for insufficient funds."
                    .to_owned(),
            ],
        }),
    }
}

pub(crate) fn reconciliation() -> Reconciliation {
    let check = |name: &str, description: &str, examined, findings| Check {
        name: name.to_owned(),
        description: description.to_owned(),
        examined,
        findings,
    };
    Reconciliation {
        template: TEMPLATE,
        issuer: "Passbook Bank & Söhne <한국>".to_owned(),
        checks: vec![
            check("balances", "Each balance is the sum of the account's transactions.", 120_003, 0),
            check("sequence", "The numbers of an account's transactions have no gap.", 120_003, 0),
            check(
                "settled",
                "Each settled record has its transaction in the ledger.",
                5_204_118,
                3,
            ),
        ],
        findings: vec![
            Finding {
                check: "settled".to_owned(),
                subject: format!("record {}", record(5)),
                detail: "SUCCESS in the account database, but the ledger has no transaction".into(),
            },
            Finding {
                check: "settled".to_owned(),
                subject: "<b>record</b>".to_owned(),
                detail: "the amounts differ: \"10.00\" & '12.00'".to_owned(),
            },
        ],
        omitted: 1,
    }
}
