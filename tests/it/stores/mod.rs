//! The stores of the services, called directly on databases without any
//! replica, so that each test decides what is in one batch.

mod apply;
mod insert;
mod record_list;
mod reports;
mod settle;
mod times;
mod webhooks;
mod window;

use std::{pin::pin, time::Duration};

use contract::{AccountId, Balance, Currency};
use futures::poll;
use runtime::postgres::{CALL_LIMIT, PgPool};
use rust_decimal::Decimal;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tests::Stack;
use tokio::time::sleep;

fn krw() -> Currency {
    Currency::parse("KRW").unwrap()
}

fn balance(amount: i64) -> Balance {
    Balance::from_decimal(amount.into(), krw()).unwrap()
}

/// Balance and number of an account, in either database.
async fn account_row(database: &PgPool, account: AccountId) -> (Decimal, i64) {
    sqlx::query_as("SELECT balance, account_seq FROM accounts WHERE account_id = $1")
        .bind(account.as_uuid())
        .fetch_one(database)
        .await
        .unwrap()
}

/// Longest wait of a statement that a test keeps waiting. A slow machine needs seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// A pool whose statements wait for a lock as long as a test keeps them waiting. Those of the
/// services give up after two seconds.
fn patient(url: &str) -> PgPool {
    let options: PgConnectOptions = url.parse().unwrap();
    let options = options.options([("lock_timeout", "0"), ("statement_timeout", "0")]);
    PgPool::connect_lazy(PgPoolOptions::new(), options, 2 * PATIENCE)
}

/// A pool whose statements wait for a lock for a short time only.
fn impatient(url: &str) -> PgPool {
    let options: PgConnectOptions = url.parse().unwrap();
    let options = options.options([("lock_timeout", "200ms")]);
    PgPool::connect_lazy(PgPoolOptions::new(), options, CALL_LIMIT)
}

#[tokio::test]
async fn a_transaction_that_is_abandoned_while_it_begins_is_open_for_no_later_user() {
    let stack = Stack::shared().await;
    let options: PgConnectOptions = stack.file().databases.account.parse().unwrap();
    let one = PgPoolOptions::new().max_connections(1);
    let pool = PgPool::connect_lazy(one, options, CALL_LIMIT);
    for polls in (1..=4).cycle().take(40) {
        // At each step of it: before BEGIN is sent, before it is answered, and before the end.
        {
            let mut begin = pin!(pool.begin());
            for _ in 0..polls {
                if poll!(&mut begin).is_ready() {
                    break;
                }
                sleep(Duration::from_millis(1)).await;
            }
        }
        // Each statement has a transaction of its own.
        let transaction = || sqlx::query_scalar("SELECT pg_current_xact_id()::text::bigint");
        let first: i64 = transaction().fetch_one(&pool).await.unwrap();
        let second: i64 = transaction().fetch_one(&pool).await.unwrap();
        assert_ne!(first, second);
    }
}
