//! The figures of a statement, against sums that PostgreSQL computes with its own tz
//! database.

use contract::{AccountId, Currency, Kind};
use rand::{RngExt, seq::IndexedRandom};
use report_document::Total;
use rust_decimal::Decimal;
use tests::Stack;
use time::{Duration, OffsetDateTime, macros::datetime};
use uuid::Uuid;

use super::fixture::{Books, period, unopened};

const ACCOUNTS: usize = 200;
const ZONES: [&str; 3] = ["Europe/Berlin", "America/New_York", "Asia/Seoul"];
/// Clock changes, month ends, a leap day, a year's end, and longer periods.
const DATES: [(&str, &str); 12] = [
    ("2024-02-01", "2024-03-01"),
    ("2024-02-29", "2024-03-01"),
    ("2024-03-10", "2024-03-11"),
    ("2024-03-31", "2024-04-01"),
    ("2024-03-01", "2024-04-01"),
    ("2024-10-27", "2024-10-28"),
    ("2024-11-03", "2024-11-04"),
    ("2024-10-01", "2024-11-01"),
    ("2024-12-31", "2025-01-01"),
    ("2024-12-01", "2025-01-01"),
    ("2024-01-01", "2025-01-01"),
    ("2024-04-30", "2024-05-01"),
];

/// Rising times of the year 2024, many of them at the edge of a day in one of the zones.
fn times(count: usize) -> Vec<OffsetDateTime> {
    let mut random = rand::rng();
    let start = datetime!(2023-12-20 00:00 UTC);
    let mut times: Vec<_> = (0..count)
        .map(|_| {
            if random.random_bool(0.5) {
                return start + Duration::milliseconds(random.random_range(0..400 * 86_400_000));
            }
            let (from, to) = DATES.choose(&mut random).unwrap();
            let zone = ZONES.choose(&mut random).unwrap();
            let period = period(from, to, zone);
            let edge = *[period.from(), period.to()].choose(&mut random).unwrap();
            edge + Duration::microseconds(random.random_range(-1..=1))
        })
        .collect();
    times.sort();
    times
}

fn amount(currency: Currency) -> Decimal {
    Decimal::new(rand::rng().random_range(1..1_000_000), currency.exponent())
}

/// Deposits, and withdrawals that the balance covers.
fn history(currency: Currency) -> Vec<(OffsetDateTime, Kind, Decimal)> {
    let mut balance = Decimal::ZERO;
    let entry = |at| {
        let amount = amount(currency);
        let kind = if amount <= balance && rand::rng().random_bool(0.5) {
            Kind::Withdrawal
        } else {
            Kind::Deposit
        };
        balance += if kind == Kind::Deposit { amount } else { -amount };
        (at, kind, amount)
    };
    times(rand::rng().random_range(0..120)).into_iter().map(entry).collect()
}

/// The sums of one account and period.
#[derive(Debug, PartialEq, sqlx::FromRow)]
struct Sums {
    opening: Decimal,
    closing: Decimal,
    first: i64,
    last: i64,
    credits: Decimal,
    debits: Decimal,
    credit_count: i64,
    debit_count: i64,
    records: Vec<Uuid>,
}

async fn sums(books: &Books, account: AccountId, dates: (&str, &str), zone: &str) -> Sums {
    sqlx::query_as(
        "WITH entry AS (
             SELECT record_id, account_seq, CASE type WHEN 'DEPOSIT' THEN amount ELSE 0 END AS credit,
                 CASE type WHEN 'WITHDRAWAL' THEN amount ELSE 0 END AS debit,
                 created_at >= $2::date::timestamp AT TIME ZONE $4 AS begun,
                 created_at < $3::date::timestamp AT TIME ZONE $4 AS unended
             FROM transactions WHERE account_id = $1 AND status = 'SUCCESS'
         )
         SELECT coalesce(sum(credit - debit) FILTER (WHERE NOT begun), 0) AS opening,
             coalesce(sum(credit - debit) FILTER (WHERE unended), 0) AS closing,
             count(*) FILTER (WHERE NOT begun) AS first, count(*) FILTER (WHERE unended) AS last,
             coalesce(sum(credit) FILTER (WHERE begun AND unended), 0) AS credits,
             coalesce(sum(debit) FILTER (WHERE begun AND unended), 0) AS debits,
             count(*) FILTER (WHERE begun AND unended AND credit > 0) AS credit_count,
             count(*) FILTER (WHERE begun AND unended AND debit > 0) AS debit_count,
             coalesce(array_agg(record_id ORDER BY account_seq) FILTER (WHERE begun AND unended), '{}')
                 AS records
         FROM entry",
    )
    .bind(account.as_uuid())
    .bind(dates.0)
    .bind(dates.1)
    .bind(zone)
    .fetch_one(&books.transactions)
    .await
    .unwrap()
}

#[tokio::test]
async fn a_statements_figures_are_the_sums_of_its_account_and_period() {
    let stack = Stack::start_servers("statement-figures").await;
    let books = Books::of(&stack).await;
    let (mut entries_seen, mut changes_seen) = (0, 0);
    for number in 0..ACCOUNTS {
        let code = *["KRW", "USD", "KWD", "CLF"].choose(&mut rand::rng()).unwrap();
        let currency = Currency::parse(code).unwrap();
        let account = books.open(code, datetime!(2023-01-01 00:00 UTC)).await;
        books.write(account, code, &history(currency)).await;
        let info = books.info(&stack, account).await;
        assert_eq!((info.currency, info.owner_id.as_str()), (currency, "owner"));
        // Each pair of dates and zone occurs several times.
        let dates = DATES[number % DATES.len()];
        let zone = ZONES[(number / DATES.len()) % ZONES.len()];
        let period = period(dates.0, dates.1, zone);
        let (statement, entries) = books.statement(&info, &period).await.unwrap();
        let sums = sums(&books, account, dates, zone).await;
        let Total { count: credit_count, amount: credits } = statement.credits;
        let Total { count: debit_count, amount: debits } = statement.debits;
        let found = Sums {
            opening: statement.opening.balance,
            closing: statement.closing.balance,
            first: statement.opening.account_seq,
            last: statement.closing.account_seq,
            credits,
            debits,
            credit_count: credit_count.try_into().unwrap(),
            debit_count: debit_count.try_into().unwrap(),
            records: entries.iter().map(|entry| entry.record_id.as_uuid()).collect(),
        };
        assert_eq!(found, sums, "{account} {dates:?} {zone}");
        for balance in [statement.opening.balance, statement.closing.balance, credits, debits] {
            assert_eq!(balance.scale(), currency.exponent());
        }
        for entry in &entries {
            assert!(period.contains(entry.at), "{entry:?}");
            assert_eq!(entry.at, period.local(entry.at));
            assert_eq!(entry.at.offset(), period.local(entry.at).offset());
            assert_eq!(entry.amount.scale(), currency.exponent());
        }
        entries_seen += entries.len();
        changes_seen += usize::from(period.from().offset() != period.to().offset());
        // The positions are the same without the entries.
        for (at, position) in [(period.from(), statement.opening), (period.to(), statement.closing)]
        {
            assert_eq!(reporting::position(&books.ledger, &info, at).await.unwrap(), position);
        }
    }
    assert!(entries_seen > 1_000 && changes_seen > 30, "{entries_seen} {changes_seen}");
}

/// More entries than one page.
#[tokio::test]
async fn a_long_statement_is_read_in_pages_and_can_be_stopped() {
    const ENTRIES: i64 = 12_345;
    let stack = Stack::start_servers("statement-pages").await;
    let books = Books::of(&stack).await;
    let start = datetime!(2024-01-01 00:00 UTC);
    let history: Vec<_> =
        (0..ENTRIES).map(|n| (start + Duration::seconds(n), Kind::Deposit, Decimal::ONE)).collect();
    let info = unopened("KRW");
    books.write(info.account_id, "KRW", &history).await;
    let period = period("2024-01-01", "2024-02-01", "UTC");
    let (statement, entries) = books.statement(&info, &period).await.unwrap();
    assert_eq!(statement.closing.balance, Decimal::from(ENTRIES));
    assert!((1..=ENTRIES).eq(entries.iter().map(|entry| entry.account_seq)));
    // The same again gives the same.
    assert_eq!(books.statement(&info, &period).await.unwrap(), (statement, entries));

    let path = stack.dir.join("stopped.ndjson");
    let writer = report_document::EntryWriter::create(&path).unwrap();
    let mut calls = 0;
    let stopped = reporting::statement(
        books.sources(),
        &info,
        &period,
        "Passbook",
        std::time::Duration::from_secs(5),
        writer,
        |progress| {
            calls += 1;
            assert_eq!(i64::try_from(progress.total), Ok(ENTRIES));
            std::ops::ControlFlow::Break(())
        },
    )
    .await;
    assert!(matches!(stopped, Err(reporting::StatementError::Stopped)), "{stopped:?}");
    assert_eq!(calls, 1);
}

#[tokio::test]
async fn an_account_that_the_ledger_has_never_seen_has_zeros() {
    let stack = Stack::start_servers("statement-of-nothing").await;
    let books = Books::of(&stack).await;
    let info = unopened("USD");
    let period = period("2024-01-01", "2024-02-01", "UTC");
    let (statement, entries) = books.statement(&info, &period).await.unwrap();
    assert_eq!(statement.opening, statement.closing);
    assert_eq!(statement.opening.balance.to_string(), "0.00");
    assert_eq!((statement.entries(), entries.len()), (0, 0));
    // Not even the account-service knows it.
    let accounts = reporting::Accounts::new(&stack.file().databases.account).unwrap();
    assert_eq!(accounts.find(info.account_id).await.unwrap(), None);
}
