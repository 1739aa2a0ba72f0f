//! The stores of the services, called directly on databases without any
//! replica, so that each test decides what is in one batch.

mod apply;
mod insert;
mod reports;
mod settle;
mod times;
mod window;

use std::time::Duration;

use contract::{AccountId, Balance, Currency};
use runtime::postgres::{CALL_LIMIT, PgPool};
use rust_decimal::Decimal;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

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
