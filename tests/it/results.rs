//! Results and the projected balance.

use serde_json::json;
use sqlx::AssertSqlSafe;
use tests::{Client, PendingDeposits, Stack, broker, client::new_key};
use uuid::Uuid;

#[tokio::test]
async fn results_out_of_order_leave_the_newest_balance() {
    let stack = Stack::shared().await;
    let client = Client::teller(stack);
    let account = client.open_account("KRW").await;
    let records = [new_key(), new_key()];
    let [first, second] = &records;
    let deposits = records.each_ref().map(|record| (record.as_str(), 100));
    PendingDeposits::of(&account).store(&stack.accounts().await, deposits).await;
    let decided = format!(
        "INSERT INTO accounts (account_id, currency, balance, account_seq)
         VALUES ('{account}', 'KRW', 200, 2);
         INSERT INTO transactions
             (record_id, account_id, type, amount, currency, status, balance_after, account_seq)
         VALUES ('{first}', '{account}', 'DEPOSIT', 100, 'KRW', 'SUCCESS', 100, 1),
                ('{second}', '{account}', 'DEPOSIT', 100, 'KRW', 'SUCCESS', 200, 2)"
    );
    let ledger = stack.ledger().await;
    sqlx::raw_sql(AssertSqlSafe(decided)).execute(&ledger).await.unwrap();
    let jetstream = broker::connect(stack).await;
    for (seq, record) in [(2, second), (1, first)] {
        let transaction: i64 =
            sqlx::query_scalar("SELECT id FROM transactions WHERE record_id = $1")
                .bind(Uuid::parse_str(record).unwrap())
                .fetch_one(&ledger)
                .await
                .unwrap();
        let result = json!({
            "recordId": record, "transactionId": transaction, "accountId": account,
            "type": "DEPOSIT", "amount": "100", "currency": "KRW", "status": "SUCCESS",
            "reason": null, "balanceAfter": (seq * 100).to_string(), "accountSeq": seq,
            "processedAt": "2026-01-02T03:04:05Z",
        });
        broker::publish(&jetstream, "transaction.result.deposit", &new_key(), result.to_string())
            .await;
        assert_eq!(client.settled(record).await.text("balanceAfter"), (seq * 100).to_string());
        let shown = client.account(&account).await;
        assert_eq!((shown.text("balance"), &shown.body["accountSeq"]), ("200", &json!(2)));
    }
}
