//! Rows that are copied into a table, instead of inserted.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use runtime::copy::{Rows, Undisturbed};
use rust_decimal::Decimal;
use sqlx::{Connection, PgPool, postgres::PgPoolOptions};
use tests::Stack;
use time::{Duration as Span, OffsetDateTime};
use uuid::Uuid;

type Row = (Uuid, i64, Option<String>, Option<Decimal>, Option<OffsetDateTime>, Option<Vec<u8>>);

/// A pool of one connection, on which a table is there that nobody else sees.
async fn pool_with_table() -> PgPool {
    let stack = Stack::shared().await;
    let options = stack.ledger().await.connect_options().as_ref().clone();
    let pool = PgPoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
    let table = "CREATE TEMPORARY TABLE copied
        (id uuid PRIMARY KEY, number bigint, text text, amount numeric(22, 4), at timestamptz, bytes bytea)";
    sqlx::query(table).execute(&pool).await.unwrap();
    pool
}

const STATEMENT: &str =
    "COPY copied (id, number, text, amount, at, bytes) FROM STDIN (FORMAT binary)";

fn encoded(rows: &[Row]) -> Rows {
    let mut encoded = Rows::of(6);
    for (id, number, text, amount, at, bytes) in rows {
        let row = encoded.row().put(id).unwrap().put(number).unwrap();
        row.put(text.as_deref()).unwrap().put(amount).unwrap().put(at).unwrap().put(bytes).unwrap();
    }
    encoded
}

#[tokio::test]
async fn what_is_copied_reads_back_the_same() {
    let pool = pool_with_table().await;
    let decimal = |text: &str| Some(text.parse::<Decimal>().unwrap());
    let at = Some(OffsetDateTime::UNIX_EPOCH + Span::microseconds(1_772_323_199_999_999));
    let rows: Vec<Row> = vec![
        (
            Uuid::from_u128(1),
            i64::MAX,
            Some("하나\n\t\\.".to_owned()),
            decimal("1.2345"),
            at,
            Some(vec![0, 255]),
        ),
        (
            Uuid::from_u128(2),
            i64::MIN,
            Some(String::new()),
            decimal("999999999999999999.9999"),
            at,
            Some(vec![]),
        ),
        (Uuid::from_u128(3), 0, None, decimal("0.0001"), None, None),
        (Uuid::from_u128(4), -1, Some("NULL".to_owned()), decimal("-10000.5"), at, None),
        (Uuid::from_u128(5), 1, None, decimal("0"), at, None),
        (Uuid::from_u128(6), 1, None, decimal("100000000"), at, None),
        (Uuid::from_u128(7), 1, None, None, None, None),
    ];
    let mut connection = Undisturbed::acquire(&pool).await.unwrap();
    let copied = encoded(&rows).copy(&mut connection, STATEMENT).await.unwrap();
    assert_eq!(copied, 7);
    assert_eq!(encoded(&[]).copy(&mut connection, STATEMENT).await.unwrap(), 0);
    connection.keep();
    let found: Vec<Row> =
        sqlx::query_as("SELECT * FROM copied ORDER BY id").fetch_all(&pool).await.unwrap();
    assert_eq!(found, rows);
}

#[tokio::test]
async fn after_a_copy_that_fails_nothing_is_there_and_the_connection_goes_on() {
    let pool = pool_with_table().await;
    let row = |id| (Uuid::from_u128(id), 1, None, None, None, None);
    let mut connection = Undisturbed::acquire(&pool).await.unwrap();
    let mut transaction = connection.begin().await.unwrap();
    let twice = encoded(&[row(1), row(2), row(1)]).copy(&mut transaction, STATEMENT).await;
    let error = twice.unwrap_err().into_database_error().unwrap();
    assert_eq!(error.constraint(), Some("copied_pkey"));
    transaction.rollback().await.unwrap();
    let mut short = Rows::of(5);
    short.row().put(1_i64).unwrap();
    assert!(short.copy(&mut connection, STATEMENT).await.is_err());
    connection.keep();
    let count = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM copied").fetch_one(&pool);
    assert_eq!(count.await.unwrap(), 0);
}

/// Polls it this often and drops it then.
async fn give_up_after(polls: usize, future: impl Future) -> bool {
    let mut future = pin!(future);
    for _ in 0..polls {
        let ready = poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_ready())).await;
        if ready {
            return true;
        }
        // The answer arrives, and is not read.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}

#[tokio::test]
async fn a_copy_that_was_given_up_leaves_nobody_with_its_answer() {
    let pool = pool_with_table().await;
    let mut given_up = 0;
    for polls in 1..10 {
        let copying = async {
            let mut connection = Undisturbed::acquire(&pool).await.unwrap();
            let table = "CREATE TEMPORARY TABLE IF NOT EXISTS copied
                (id uuid, number bigint, text text, amount numeric, at timestamptz, bytes bytea)";
            sqlx::query(table).execute(&mut **connection).await.unwrap();
            let mut transaction = connection.begin().await.unwrap();
            let row = (Uuid::now_v7(), 1, None, None, None, None);
            encoded(&[row]).copy(&mut transaction, STATEMENT).await.unwrap();
            transaction.commit().await.unwrap();
            connection.keep();
        };
        given_up += usize::from(!give_up_after(polls, copying).await);
        for number in 0..5_i64 {
            let asked =
                sqlx::query_scalar::<_, i64>("SELECT $1").bind(number).fetch_optional(&pool);
            assert_eq!(asked.await.unwrap(), Some(number), "given up after {polls} polls");
        }
    }
    assert!(given_up > 4, "{given_up}");
}
