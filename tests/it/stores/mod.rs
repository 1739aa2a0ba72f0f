//! Batches as the services' stores take them, with nobody else at work: what
//! lies in one batch is not left to chance here.

mod ledger;
mod settling;

use contract::{AccountId, Balance, Currency};
use rust_decimal::Decimal;
use sqlx::PgPool;
use tests::{Stack, stack};

/// The databases, and no replica of any service.
async fn databases(name: &str) -> Stack {
    let none = ["--port", "0", "--account-replicas", "0", "--transaction-replicas", "0"];
    Stack::start_in(&stack::folder(name), &none).await
}

fn krw() -> Currency {
    Currency::parse("KRW").unwrap()
}

fn balance(amount: i64) -> Balance {
    Balance::from_decimal(amount.into(), krw()).unwrap()
}

async fn shown(accounts: &PgPool, account: AccountId) -> (Decimal, i64) {
    sqlx::query_as("SELECT balance, account_seq FROM accounts WHERE account_id = $1")
        .bind(account.as_uuid())
        .fetch_one(accounts)
        .await
        .unwrap()
}
