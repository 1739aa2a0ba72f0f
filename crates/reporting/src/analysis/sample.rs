//! The figures of a small report, for the tests.

use contract::{AccountId, Kind, RecordId, TransactionId};
use report_document::{
    Activity, DayVolume, LargestAccount, Period, RefusalCount, SettlementTime, TEMPLATE,
    UnusualEntries, UnusualEntry, Volume,
};
use rust_decimal::Decimal;
use time::macros::datetime;

pub(super) fn decimal(text: &str) -> Decimal {
    text.parse().unwrap()
}

fn volume(currency: &str, kind: Kind, count: u64, amount: &str) -> Volume {
    Volume { currency: currency.to_owned(), r#type: kind, count, amount: decimal(amount) }
}

fn day(day: &str, volume: Volume) -> DayVolume {
    DayVolume { day: day.to_owned(), volume }
}

fn account(currency: &str, count: u64, credits: &str, debits: &str) -> LargestAccount {
    LargestAccount {
        currency: currency.to_owned(),
        account_id: AccountId::new(),
        count,
        credits: decimal(credits),
        debits: decimal(debits),
    }
}

/// Four days in two currencies, with refusals, unusual entries and settlement times.
pub(super) fn activity() -> Activity {
    use Kind::{Deposit, Withdrawal};
    let record = RecordId::new();
    Activity {
        template: TEMPLATE,
        issuer: "Bank".to_owned(),
        period: Period {
            from: datetime!(2026-03-28 00:00 +1),
            to: datetime!(2026-04-01 00:00 +2),
            time_zone: "Europe/Berlin".to_owned(),
        },
        totals: vec![
            volume("EUR", Deposit, 1_236, "123456.70"),
            volume("EUR", Withdrawal, 417, "98765.43"),
            volume("KRW", Deposit, 80_000, "4000000000"),
        ],
        days: vec![
            day("2026-03-28", volume("EUR", Deposit, 236, "23456.70")),
            day("2026-03-29", volume("EUR", Deposit, 200, "20000.00")),
            day("2026-03-29", volume("EUR", Withdrawal, 417, "98765.43")),
            day("2026-03-29", volume("KRW", Deposit, 60_000, "3000000000")),
            day("2026-03-30", volume("EUR", Deposit, 500, "50000.00")),
            day("2026-03-30", volume("KRW", Deposit, 20_000, "1000000000")),
            day("2026-03-31", volume("EUR", Deposit, 300, "30000.00")),
        ],
        refusals: vec![
            RefusalCount { reason: "CURRENCY_MISMATCH".to_owned(), r#type: Deposit, count: 11 },
            RefusalCount { reason: "INSUFFICIENT_FUNDS".to_owned(), r#type: Withdrawal, count: 83 },
        ],
        largest_accounts: vec![
            account("EUR", 40, "50000.00", "40000.00"),
            account("EUR", 13, "20000.00", "1000.50"),
            account("KRW", 700, "900000000", "0"),
        ],
        unusual: UnusualEntries {
            method: "An entry is unusual if its score is above 3.5.".to_owned(),
            count: 27,
            items: vec![UnusualEntry {
                account_id: AccountId::new(),
                transaction_id: TransactionId::of(record),
                record_id: record,
                r#type: Withdrawal,
                currency: "EUR".to_owned(),
                amount: decimal("31234.56"),
                at: datetime!(2026-03-29 14:31:22 +2),
                score: 12.37,
            }],
        },
        settlement: SettlementTime {
            count: 81_747,
            p50_ms: 38,
            p90_ms: 154,
            p99_ms: 2_643,
            max_ms: 62_417,
        },
        analysis: None,
    }
}
