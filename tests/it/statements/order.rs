//! Times in the wrong order, and contradictions in the ledger.

use contract::Kind;
use reporting::{Period, StatementError};
use rust_decimal::Decimal;
use tests::Stack;
use time::{Duration, OffsetDateTime, macros::datetime};

use super::fixture::{Books, period, unopened};

const MIDNIGHT: OffsetDateTime = datetime!(2024-02-01 00:00 UTC);

fn deposits(times: &[f64]) -> Vec<(OffsetDateTime, Kind, Decimal)> {
    let at = |seconds: &f64| MIDNIGHT + Duration::seconds_f64(*seconds);
    times.iter().map(|seconds| (at(seconds), Kind::Deposit, Decimal::ONE)).collect()
}

/// January and February.
fn months() -> [Period; 2] {
    [period("2024-01-01", "2024-02-01", "UTC"), period("2024-02-01", "2024-03-01", "UTC")]
}

/// Earlier releases took the time of an entry before its lock. Such an entry counts as
/// applied together with the one before it.
#[tokio::test]
async fn entries_in_the_wrong_order_of_times_are_in_one_period_each() {
    let stack = Stack::start_servers("statement-inversions").await;
    let books = Books::of(&stack).await;
    for (times, in_january) in [
        (vec![-2.0, -1.0, 0.5, -0.5, 1.0], 2),
        (vec![-2.0, 0.5, -1.0, 0.7, -0.5, 1.0], 1),
        (vec![0.5, -0.5], 0),
        (vec![-1.0, -1.5, -0.5, -59.0, 0.0], 4),
        (vec![-50.0, -3.0, -2.0, 0.0, -1.0, -0.5, 0.0, -0.1, 2.0, 70.0], 3),
    ] {
        let info = unopened("KRW");
        books.write(info.account_id, "KRW", &deposits(&times)).await;
        let [january, february] = months();
        let (first, before) = books.statement(&info, &january).await.unwrap();
        let (second, after) = books.statement(&info, &february).await.unwrap();
        assert_eq!(first.closing, second.opening, "{times:?}");
        assert_eq!(first.closing.account_seq, in_january, "{times:?}");
        assert_eq!(before.len() + after.len(), times.len());
        for (entries, period) in [(before, january), (after, february)] {
            assert!(entries.is_sorted_by_key(|entry| entry.at), "{entries:?}");
            assert!(entries.iter().all(|entry| period.contains(entry.at)), "{entries:?}");
        }
    }
}

#[tokio::test]
async fn times_that_run_backwards_by_more_than_a_minute_are_an_error() {
    let stack = Stack::start_servers("statement-backwards").await;
    let books = Books::of(&stack).await;
    let info = unopened("KRW");
    books.write(info.account_id, "KRW", &deposits(&[5.0, 100.0, 39.9, 120.0])).await;
    let [_, february] = months();
    let error = books.statement(&info, &february).await.unwrap_err();
    assert!(matches!(error, StatementError::TimesRunBackwards { account_seq: 3, .. }), "{error}");
    assert!(error.is_permanent());
    assert!(error.to_string().contains("accountSeq 3"), "{error}");
}

#[tokio::test]
async fn a_ledger_that_contradicts_itself_gives_no_statement() {
    let stack = Stack::start_servers("statement-contradictions").await;
    let books = Books::of(&stack).await;
    let [_, february] = months();
    for (change, finding) in [
        (
            "UPDATE transactions SET amount = 2 WHERE account_id = $1 AND account_seq = 2",
            "accountSeq 2 is 2, but the entries give 3",
        ),
        (
            "UPDATE transactions SET type = 'WITHDRAWAL' WHERE account_id = $1 AND account_seq = 3",
            "accountSeq 3 is 3, but the entries give 1",
        ),
        (
            "UPDATE transactions SET balance_after = 9 WHERE account_id = $1 AND account_seq = 4",
            "its balance is 4, but 9 at accountSeq 4",
        ),
        ("UPDATE accounts SET balance = 9 WHERE account_id = $1", "its balance is 9, but 4"),
        (
            "UPDATE transactions SET currency = 'USD' WHERE account_id = $1 AND account_seq = 3",
            "accountSeq 3 is in USD, not in KRW",
        ),
        ("UPDATE accounts SET currency = 'USD' WHERE account_id = $1", "the ledger has USD"),
        (
            "DELETE FROM transactions WHERE account_id = $1 AND account_seq = 2",
            "the ledger has no accountSeq 2",
        ),
        (
            "UPDATE transactions SET amount = 1.5 WHERE account_id = $1 AND account_seq = 1",
            "the amount 1.5000 at accountSeq 1",
        ),
    ] {
        let info = unopened("KRW");
        books.write(info.account_id, "KRW", &deposits(&[1.0, 2.0, 3.0, 4.0])).await;
        let id = info.account_id.as_uuid();
        sqlx::query(change).bind(id).execute(&books.transactions).await.unwrap();
        let error = books.statement(&info, &february).await.unwrap_err();
        assert!(error.to_string().contains(finding), "{change}: {error}");
        assert!(error.is_permanent());
    }
}
