//! Checks of the invariants, shared by the tests. They read the databases,
//! because a response alone could be wrong.

use runtime::postgres::PgPool;
use rust_decimal::Decimal;
use serde_json::Value;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::{Stack, process};

/// Checks that an account holds exactly the deposited amount. `table` has the columns `account_id`
/// and `balance`.
///
/// # Errors
/// The balance found instead: 0 if there is no account yet.
pub async fn holds(
    database: &PgPool,
    table: &'static str,
    account: &str,
    deposited: u64,
) -> Result<(), Decimal> {
    let query = format!("SELECT balance FROM {table} WHERE account_id = $1");
    let balance: Decimal = sqlx::query_scalar(AssertSqlSafe(query))
        .bind(Uuid::parse_str(account).unwrap())
        .fetch_optional(database)
        .await
        .unwrap()
        .unwrap_or_default();
    if balance == Decimal::from(deposited) { Ok(()) } else { Err(balance) }
}

/// Runs `passbook verify` on the stack. Gives its exit code, and its JSON report or, if there is
/// none, its stderr.
pub async fn verify(stack: &Stack) -> (i32, Value) {
    let arguments = ["verify", "-o", "json", "--dir", stack.dir.to_str().unwrap()];
    let output = process::run(&arguments).await;
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), report)
}

/// Whether the findings of a report are about times in the future, and about nothing else.
#[must_use]
pub fn only_dated(report: &Value) -> bool {
    let has_findings = |check: &&str| report[check]["findings"] != 0;
    let checks =
        ["once", "pinned", "conserved", "settled", "agreed", "projected", "chained", "announced"];
    has_findings(&"dated") && !checks.iter().any(has_findings)
}

/// Checks that `passbook verify` has compared at least one record and has no finding. Gives the
/// report.
pub async fn assert_verified(stack: &Stack) -> Value {
    let (code, report) = verify(stack).await;
    assert_eq!(code, 0, "{report:#}");
    assert!(report["agreed"]["compared"].as_u64().unwrap() > 0, "{report:#}");
    report
}
