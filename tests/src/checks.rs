//! The checks that tests share. What can be fooled by nobody: they look into
//! the databases.

use rust_decimal::Decimal;
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

use crate::{Stack, stack};

/// That an account in this table holds what was deposited, or what it holds
/// instead. The table has the columns `account_id` and `balance`.
///
/// # Errors
/// The balance that is there.
pub async fn holds(
    database: &PgPool,
    table: &'static str,
    account: &str,
    deposited: u64,
) -> Result<(), Decimal> {
    let query = format!("SELECT balance FROM {table} WHERE account_id = $1");
    let balance: Decimal = sqlx::query_scalar(AssertSqlSafe(query))
        .bind(Uuid::parse_str(account).unwrap())
        .fetch_one(database)
        .await
        .unwrap();
    if balance == Decimal::from(deposited) { Ok(()) } else { Err(balance) }
}

/// Runs `passbook verify` on the stack. Gives its exit code and report, or
/// what it said instead.
pub async fn verify(stack: &Stack) -> (i32, Value) {
    let output = stack::run(&["verify", "-o", "json", "--dir", stack.dir.to_str().unwrap()]).await;
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), report)
}

/// That `passbook verify` finds nothing, and compared something.
pub async fn assert_verified(stack: &Stack) -> Value {
    let (code, report) = verify(stack).await;
    assert_eq!(code, 0, "{report:#}");
    assert!(report["agreed"]["compared"].as_u64().unwrap() > 0, "{report:#}");
    report
}
