use contract::Kind;
use proptest::prelude::*;
use report_document::{Activity, DayVolume, RefusalCount, Volume};
use rust_decimal::Decimal;

use super::super::{facts::Facts, sample};
use super::*;

const NONE: [&str; 0] = [];

fn of(activity: &Activity) -> Vec<String> {
    paragraphs(&Digest::of(activity))
}

#[test]
fn the_prose_gives_the_figures() {
    let text = of(&sample::activity()).join("\n");
    let expected = "\
From 28 March 2026 to 31 March 2026 (Europe/Berlin), the ledger applied 81,653 movements in 2 currencies. \
In KRW, 80,000 deposits brought in 4,000,000,000 KRW and 0 withdrawals took out 0 KRW: a net inflow of \
4,000,000,000 KRW. In EUR, 1,236 deposits brought in 123,456.70 EUR and 417 withdrawals took out \
98,765.43 EUR: a net inflow of 24,691.27 EUR. From the earlier to the later days, volume fell by 43.7%.
The busiest KRW day was 29 March 2026, with 60,000 movements of 3,000,000,000 KRW in total (75.0% of the \
currency's movements). The busiest EUR day was 29 March 2026, with 617 movements of 118,765.43 EUR in total \
(37.3% of the currency's movements). Deposits were 100.0% of the KRW movements and 100.0% of their amount. \
Deposits were 74.8% of the EUR movements and 55.6% of their amount.
The ledger refused 94 movements, 0.1% of all decided movements. The reasons, most frequent first: \
insufficient funds (83, 88.3%) and currency mismatch (11, 11.7%).
The largest account in KRW moved 900,000,000 KRW, 22.5% of the volume. The 2 largest accounts in EUR made up \
50.0% of its volume; the largest one moved 90,000.00 EUR, 40.5%.
27 movements have an unusual amount, 0.03% of all applied ones. The most unusual is a withdrawal of \
31,234.56 EUR on 29 March 2026, with a score of 12.4.
Of 81,747 decided movements, 50 of 100 were settled within 38 ms of the request, 90 of 100 within 154 ms and \
99 of 100 within 2.6 seconds. The slowest took 1.0 minutes.";
    assert_eq!(text, expected);
}

#[test]
fn a_period_without_movements_has_one_sentence() {
    let mut activity = sample::activity();
    activity.totals.clear();
    activity.days.clear();
    activity.refusals.clear();
    activity.largest_accounts.clear();
    activity.settlement.count = 0;
    assert_eq!(
        of(&activity),
        ["From 28 March 2026 to 31 March 2026 (Europe/Berlin), the ledger applied no movement."]
    );
}

fn volumes() -> impl Strategy<Value = Vec<(usize, usize, u32, u64)>> {
    let volume = (0..3_usize, 0..6_usize, 1..2_000_000_u32, 1..10_000_000_000_u64);
    proptest::collection::vec(volume, 0..30)
}

/// A report with these volumes: currency, day, count, amount in the smallest unit.
fn report(volumes: &[(usize, usize, u32, u64)], refused: u32, times: [u64; 4]) -> Activity {
    let mut activity = sample::activity();
    activity.period.from = time::macros::datetime!(2026-03-26 00:00 +1);
    activity.days.clear();
    for &(currency, day, count, amount) in volumes {
        let (code, scale) = [("EUR", 2), ("KRW", 0), ("KWD", 3)][currency];
        let kind = if amount % 3 == 0 { Kind::Withdrawal } else { Kind::Deposit };
        activity.days.push(DayVolume {
            day: format!("2026-03-{}", 26 + day),
            volume: Volume {
                currency: code.to_owned(),
                r#type: kind,
                count: count.into(),
                amount: Decimal::new(i64::try_from(amount).unwrap(), scale),
            },
        });
    }
    activity.totals = activity.days.iter().map(|day| day.volume.clone()).collect();
    activity
        .largest_accounts
        .retain(|account| volumes.len().is_multiple_of(2) || account.currency == "KRW");
    let reason = "INSUFFICIENT_FUNDS".to_owned();
    activity.refusals =
        vec![RefusalCount { reason, r#type: Kind::Withdrawal, count: refused.into() }];
    let [p50_ms, p90_ms, p99_ms, max_ms] = times;
    activity.settlement =
        report_document::SettlementTime { count: 5, p50_ms, p90_ms, p99_ms, max_ms };
    activity
}

proptest! {
    /// The rules keep the rule for numbers that a model must keep.
    #[test]
    fn every_number_that_the_rules_write_is_in_the_figures(
        volumes in volumes(),
        refused in 0_u32..100_000,
        times in any::<[u32; 4]>(),
    ) {
        let activity = report(&volumes, refused, times.map(|time| u64::from(time >> (time % 24))));
        let digest = Digest::of(&activity);
        let text = paragraphs(&digest).join("\n");
        prop_assert_eq!(Facts::of(&digest).wrong_numbers(&text), NONE, "{}", text);
    }
}
