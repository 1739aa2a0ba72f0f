//! `passbook verify` finds what is broken on purpose.

use serde_json::Value;
use sqlx::AssertSqlSafe;
use tests::{Client, Stack, checks};

#[tokio::test]
async fn each_invariant_is_seen_to_be_broken() {
    let stack = Stack::start("verify").await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    let other = client.open_account("KRW").await;
    client.deposit(&other, "5").await;
    client.deposit(&account, "100").await;
    client.deposit(&account, "20").await;
    client.withdraw(&account, "1000").await;
    let clean = checks::assert_verified(&stack).await;
    assert_eq!(clean["agreed"]["compared"], Value::from(4), "{clean:#}");
    assert_eq!(clean["conserved"]["compared"], Value::from(2), "{clean:#}");

    let accounts = stack.accounts().await;
    let ledger = stack.ledger().await;
    let of = |statement: &str| statement.replace('@', &format!("'{account}'"));
    for (invariant, database, damage, repair) in [
        (
            "conserved",
            &ledger,
            "UPDATE accounts SET balance = 121 WHERE account_id = @",
            "UPDATE accounts SET balance = 120 WHERE account_id = @",
        ),
        (
            "conserved",
            &ledger,
            "UPDATE accounts SET account_seq = 3 WHERE account_id = @",
            "UPDATE accounts SET account_seq = 2 WHERE account_id = @",
        ),
        (
            "conserved",
            &ledger,
            "UPDATE transactions SET account_seq = 3 WHERE account_id = @ AND account_seq = 2",
            "UPDATE transactions SET account_seq = 2 WHERE account_id = @ AND account_seq = 3",
        ),
        (
            "conserved",
            &ledger,
            "UPDATE transactions SET balance_after = 99 WHERE account_id = @ AND account_seq = 1",
            "UPDATE transactions SET balance_after = 100 WHERE account_id = @ AND account_seq = 1",
        ),
        (
            "agreed",
            &ledger,
            "UPDATE transactions SET amount = 1001 WHERE account_id = @ AND status = 'FAILED'",
            "UPDATE transactions SET amount = 1000 WHERE account_id = @ AND status = 'FAILED'",
        ),
        (
            "agreed",
            &ledger,
            "CREATE TABLE gone AS SELECT * FROM transactions WHERE account_id = @ AND status = 'FAILED';
             DELETE FROM transactions WHERE account_id = @ AND status = 'FAILED'",
            "INSERT INTO transactions OVERRIDING SYSTEM VALUE SELECT * FROM gone; DROP TABLE gone",
        ),
        (
            "agreed",
            &accounts,
            "CREATE TABLE gone AS SELECT * FROM transaction_records WHERE account_id = @ AND amount = 20;
             DELETE FROM transaction_records WHERE account_id = @ AND amount = 20",
            "INSERT INTO transaction_records SELECT * FROM gone; DROP TABLE gone",
        ),
        (
            "agreed",
            &accounts,
            "UPDATE transaction_records SET balance_after = 99 WHERE account_id = @ AND amount = 100",
            "UPDATE transaction_records SET balance_after = 100 WHERE account_id = @ AND amount = 100",
        ),
        (
            "agreed",
            &accounts,
            "UPDATE transaction_records SET status = 'PENDING', amount = 21, transaction_id = NULL,
             balance_after = NULL, redrive_at = now() + interval '1 hour'
             WHERE account_id = @ AND amount = 20",
            "UPDATE transaction_records SET amount = 20, redrive_at = NULL
             WHERE account_id = @ AND amount = 21",
        ),
        (
            "projected",
            &accounts,
            "UPDATE accounts SET balance = 119 WHERE account_id = @",
            "UPDATE accounts SET balance = 120 WHERE account_id = @",
        ),
        (
            "projected",
            &accounts,
            "UPDATE accounts SET account_seq = 9 WHERE account_id = @",
            "UPDATE accounts SET account_seq = 2 WHERE account_id = @",
        ),
        (
            "once",
            &ledger,
            "ALTER TABLE transactions DROP CONSTRAINT transactions_record_id_key;
             INSERT INTO transactions (record_id, account_id, type, amount, currency, status, reason)
             SELECT record_id, account_id, type, amount, currency, status, reason
             FROM transactions WHERE account_id = @ AND status = 'FAILED'",
            "DELETE FROM transactions WHERE account_id = @ AND status = 'FAILED'
             AND id > (SELECT min(id) FROM transactions WHERE account_id = @ AND status = 'FAILED')",
        ),
        (
            "pinned",
            &ledger,
            "ALTER TABLE transactions DROP CONSTRAINT transactions_outcome_check;
             UPDATE transactions SET balance_after = 0 WHERE account_id = @ AND status = 'FAILED'",
            "UPDATE transactions SET balance_after = NULL WHERE account_id = @ AND status = 'FAILED'",
        ),
    ] {
        sqlx::raw_sql(AssertSqlSafe(of(damage))).execute(database).await.unwrap();
        let (code, report) = checks::verify(&stack).await;
        assert_eq!(code, 1, "{damage}: {report:#}");
        assert!(report[invariant]["findings"].as_u64().unwrap() > 0, "{damage}: {report:#}");
        let first = report[invariant]["first"][0].as_str().unwrap();
        assert!(!first.is_empty(), "{damage}: {report:#}");
        sqlx::raw_sql(AssertSqlSafe(of(repair))).execute(database).await.unwrap();
        checks::assert_verified(&stack).await;
    }
}
