//! The activity report: its figures against sums that PostgreSQL computes, with its own tz
//! database, over rows that are written into the ledger with chosen times.

mod sums;

use std::time::Duration;

use contract::{AccountId, RecordId};
use rand::{RngExt, seq::SliceRandom};
use report_document::Activity;
use reporting::{
    Ledger, Period,
    activity::{ActivityConfig, ActivityError, ActivityReader},
};
use runtime::postgres::PgPool;
use rust_decimal::Decimal;
use tests::Stack;
use time::{OffsetDateTime, macros::datetime};
use tokio::time::timeout;
use uuid::Uuid;

use self::sums::{Sums, number};

const ROWS: usize = 6_000;
const ACCOUNTS: usize = 120;
/// Currencies, their decimals, and the usual amount.
const CURRENCIES: [(&str, u32, i64); 3] =
    [("EUR", 2, 20_000), ("KRW", 0, 50_000), ("KWD", 3, 70_000)];
/// Both clock changes of 2026, a month's end, and parts of a day.
const PERIODS: [(&str, &str, &str); 5] = [
    ("2026-03-27", "2026-04-02", "Europe/Berlin"),
    ("2026-03-29", "2026-03-30", "Europe/Berlin"),
    ("2026-03-01", "2026-11-01", "America/New_York"),
    ("2026-10-24T10:00:00Z", "2026-10-26T10:00:00Z", "Europe/Berlin"),
    ("2026-03-31", "2026-04-01", "Asia/Seoul"),
];

/// Writes movements with times around the clock changes, in no order of time.
async fn fill(database: &PgPool) {
    let mut random = rand::rng();
    let mut times: Vec<OffsetDateTime> = (0..ROWS)
        .map(|at| {
            let start = [datetime!(2026-03-26 20:00 UTC), datetime!(2026-10-23 20:00 UTC)][at % 2];
            start + time::Duration::microseconds(random.random_range(0..7 * 86_400_000_000))
        })
        .collect();
    for (from, to, zone) in PERIODS {
        for day in period(from, to, zone).days() {
            times.extend([-1, 0, 1].map(|off| day.from + time::Duration::microseconds(off)));
        }
        times.push(period(from, to, zone).to());
    }
    times.shuffle(&mut random);
    let accounts: Vec<Uuid> = (0..ACCOUNTS).map(|_| AccountId::new().as_uuid()).collect();
    let mut sequences = vec![0_i64; ACCOUNTS];
    let mut insert = Insert::default();
    for at in times {
        let account = random.random_range(0..ACCOUNTS);
        let (code, decimals, usual) = CURRENCIES[account % CURRENCIES.len()];
        let unusual = if random.random_bool(0.005) { 500 } else { 1 };
        let amount = usual * unusual * random.random_range(50..200) / 100;
        let refused = random.random_bool(0.1);
        sequences[account] += i64::from(!refused);
        let wait = Duration::from_millis(random.random_range(0..60_u64).pow(2));
        insert.records.push(RecordId::lowest_at((at - wait).into()).as_uuid());
        // The ids of one millisecond differ.
        let salt = random.random_range(0..u64::MAX);
        let last = insert.records.last_mut().unwrap();
        *last = Uuid::from_u128(last.as_u128() | u128::from(salt >> 2));
        insert.accounts.push(accounts[account]);
        insert.kinds.push(["DEPOSIT", "WITHDRAWAL"][usize::from(random.random_bool(0.4))]);
        insert.amounts.push(Decimal::new(amount, decimals));
        insert.currencies.push(code);
        insert.reasons.push(refused.then_some(
            ["INSUFFICIENT_FUNDS", "CURRENCY_MISMATCH"][usize::from(random.random_bool(0.2))],
        ));
        insert.sequences.push((!refused).then_some(sequences[account]));
        insert.times.push(at);
    }
    insert.execute(database).await;
}

/// Columns of new transactions.
#[derive(Default)]
struct Insert {
    records: Vec<Uuid>,
    accounts: Vec<Uuid>,
    kinds: Vec<&'static str>,
    amounts: Vec<Decimal>,
    currencies: Vec<&'static str>,
    reasons: Vec<Option<&'static str>>,
    sequences: Vec<Option<i64>>,
    times: Vec<OffsetDateTime>,
}

impl Insert {
    async fn execute(self, database: &PgPool) {
        sqlx::query(
            "INSERT INTO transactions (record_id, account_id, type, amount, currency, status, reason,
                 balance_after, account_seq, created_at)
             SELECT record, account, type, amount, currency,
                 CASE WHEN reason IS NULL THEN 'SUCCESS' ELSE 'FAILED' END, reason,
                 CASE WHEN reason IS NULL THEN 0 END, seq, at
             FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::numeric[], $5::text[], $6::text[],
                 $7::bigint[], $8::timestamptz[])
                 AS row (record, account, type, amount, currency, reason, seq, at)",
        )
        .bind(self.records)
        .bind(self.accounts)
        .bind(self.kinds)
        .bind(self.amounts)
        .bind(self.currencies)
        .bind(self.reasons)
        .bind(self.sequences)
        .bind(self.times)
        .execute(database)
        .await
        .unwrap();
    }
}

fn period(from: &str, to: &str, zone: &str) -> Period {
    Period::parse(from, to, zone, OffsetDateTime::now_utc()).unwrap()
}

/// Small slices, without rests.
fn fast() -> ActivityConfig {
    ActivityConfig { activity_slice: 1_000, activity_busy: 100 }
}

async fn report(ledger: &Ledger, period: &Period) -> Activity {
    let mut reader = ActivityReader::new(ledger, period, fast(), None).await.unwrap();
    let mut before = reader.progress();
    while !reader.is_done() {
        reader.step().await.unwrap();
        let now = reader.progress();
        assert!(now.done >= before.done && now.total >= before.total, "{before:?} {now:?}");
        assert!(now.done <= now.total, "{now:?}");
        before = now;
    }
    assert_eq!(before.done, before.total);
    reader.document("Issuer".to_owned())
}

async fn assert_figures(ledger: &Ledger, database: &PgPool, (from, to, zone): (&str, &str, &str)) {
    let activity = report(ledger, &period(from, to, zone)).await;
    let sums = Sums { database, bounds: (from, to), zone };
    assert_eq!(activity.days, sums.days().await, "{from} {zone}");
    assert_eq!(activity.totals, sums.totals().await, "{from} {zone}");
    assert_eq!(activity.refusals, sums.refusals().await, "{from} {zone}");
    let largest: Vec<_> = activity.largest_accounts.into_iter().collect();
    let largest: Vec<_> = largest
        .into_iter()
        .map(|one| (one.currency, one.account_id.as_uuid(), one.count, one.credits, one.debits))
        .collect();
    assert_eq!(largest, sums.largest().await, "{from} {zone}");
    let times = activity.settlement;
    let found = [times.count, times.p50_ms, times.p90_ms, times.p99_ms, times.max_ms];
    for (found, exact) in found.into_iter().zip(sums.settlement().await) {
        assert!(found.abs_diff(exact) * 1_000 <= exact, "{found} is not {exact}: {times:?}");
    }
    // Bins of 0.5% move a score a little.
    let [surely, perhaps] = [sums.unusual(3.7).await, sums.unusual(3.3).await];
    let unusual = activity.unusual;
    assert!(unusual.count >= number(i64::try_from(surely.len()).unwrap()), "{from} {zone}");
    assert!(unusual.count <= number(i64::try_from(perhaps.len()).unwrap()), "{from} {zone}");
    assert!(unusual.items.iter().all(|item| perhaps.contains(&item.record_id.as_uuid())));
    assert!(unusual.items.is_sorted_by(|a, b| a.score >= b.score));
}

async fn ledger(name: &str) -> (Stack, Ledger, PgPool) {
    let stack = Stack::start_servers(name).await;
    let ledger = Ledger::new(&stack.file().databases.transaction).unwrap();
    let database = stack.ledger().await;
    fill(&database).await;
    // Without statistics, PostgreSQL may compute the medians again for each row.
    sqlx::query("ANALYZE").execute(&database).await.unwrap();
    (stack, ledger, database)
}

#[tokio::test]
async fn the_figures_of_an_activity_report_are_the_sums_of_its_period() {
    let (_stack, ledger, database) = ledger("activity-figures").await;
    for period in PERIODS {
        assert_figures(&ledger, &database, period).await;
    }
}

#[tokio::test]
async fn an_activity_report_goes_on_from_its_state_after_any_step() {
    let (_stack, ledger, _) = ledger("activity-state").await;
    let (from, to, zone) = PERIODS[2];
    let period = period(from, to, zone);
    let expected = report(&ledger, &period).await;
    let mut state = None;
    loop {
        let mut reader = ActivityReader::new(&ledger, &period, fast(), state).await.unwrap();
        // A step that is cut short leaves the state as it was.
        let _ = timeout(Duration::from_micros(300), reader.step()).await;
        reader.step().await.unwrap();
        if reader.is_done() {
            assert_eq!(reader.document("Issuer".to_owned()), expected);
            break;
        }
        let json = serde_json::to_value(reader.state()).unwrap();
        state = Some(serde_json::from_value(json).unwrap());
    }
}

#[tokio::test]
async fn a_state_of_another_period_is_not_used() {
    let (_stack, ledger, _) = ledger("activity-periods").await;
    let [one, other] = [PERIODS[0], PERIODS[1]].map(|(from, to, zone)| period(from, to, zone));
    let mut reader = ActivityReader::new(&ledger, &one, fast(), None).await.unwrap();
    while !reader.is_done() {
        reader.step().await.unwrap();
    }
    let state = serde_json::from_value(serde_json::to_value(reader.state()).unwrap()).unwrap();
    let reader = ActivityReader::new(&ledger, &other, fast(), Some(state)).await.unwrap();
    assert!(!reader.is_done());
}

#[tokio::test]
async fn a_period_without_movements_has_empty_figures() {
    let stack = Stack::start_servers("activity-empty").await;
    let ledger = Ledger::new(&stack.file().databases.transaction).unwrap();
    let activity = report(&ledger, &period("2026-01-01", "2026-02-01", "Asia/Seoul")).await;
    assert_eq!((activity.totals, activity.days, activity.refusals), (vec![], vec![], vec![]));
    assert_eq!((activity.unusual.count, activity.settlement.count), (0, 0));
}

#[tokio::test]
async fn rows_that_come_while_a_final_period_is_read_are_noticed() {
    let (_stack, ledger, database) = ledger("activity-changed").await;
    let (from, to, zone) = PERIODS[1];
    let period = period(from, to, zone);
    let mut reader = ActivityReader::new(&ledger, &period, fast(), None).await.unwrap();
    while reader.progress().total == 0 {
        reader.step().await.unwrap();
    }
    // No service does this: a transaction never changes. The row is read, because its id is among
    // those of the period.
    let moved = sqlx::query(
        "UPDATE transactions SET created_at = $1
         WHERE id = (SELECT min(id) FROM transactions WHERE created_at < $1 AND id > (
             SELECT min(id) FROM transactions WHERE created_at >= $1 AND created_at < $2))",
    )
    .bind(period.from())
    .bind(period.to())
    .execute(&database)
    .await
    .unwrap();
    assert_eq!(moved.rows_affected(), 1);
    let error = loop {
        if let Err(error) = reader.step().await {
            break error;
        }
        assert!(!reader.is_done(), "nothing was noticed");
    };
    assert!(
        matches!(error, ActivityError::Changed { counted, read } if read > counted),
        "{error:?}"
    );
    // The report begins anew.
    while !reader.is_done() {
        reader.step().await.unwrap();
    }
}
