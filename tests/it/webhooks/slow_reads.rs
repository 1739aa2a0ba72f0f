//! A database whose reads are slow.

use sqlx::AssertSqlSafe;
use tests::{Client, client::new_key, eventually};

use super::{Endpoint, SOON, open_accounts, receiver::Receiver, start_with};

/// Policies make the rows of an endpoint slow for the webhook-service. A turn reads its secret once,
/// and its owner's account three times: for twelve seconds, each statement below its limit. A turn's
/// attempts begin within ten seconds.
#[tokio::test]
async fn an_endpoint_is_served_though_the_reads_of_its_turn_take_longer_than_a_turn() {
    let settings = ["PASSBOOK_WEBHOOK_RESEAL_AFTER=10m".to_owned()];
    let stack = start_with("webhooks-slow-reads", &["--webhook-replicas", "1"], &settings).await;
    let (accounts, name) = (stack.accounts().await, new_key());
    let (ann, receiver) = (Client::customer(&stack, &name), Receiver::start().await);
    let endpoint = Endpoint::create(&ann, &receiver).await;
    receiver.received_all(&open_accounts(&ann, 1).await, SOON).await;
    eventually("the delivery is settled", SOON, async || {
        let settled = "SELECT bool_and(position = announced AND lease_until < now())
                       FROM webhook_endpoints";
        let settled: bool = sqlx::query_scalar(settled).fetch_one(&accounts).await.unwrap();
        settled.then_some(())
    })
    .await;
    let slow = format!(
        "CREATE POLICY slow ON webhook_secrets USING (current_user <> 'webhook_service'
             OR pg_sleep(6) IS NOT NULL);
         CREATE POLICY slow ON accounts USING (current_user <> 'webhook_service'
             OR owner_id <> '{name}' OR pg_sleep(2) IS NOT NULL);
         ALTER TABLE webhook_secrets ENABLE ROW LEVEL SECURITY;
         ALTER TABLE accounts ENABLE ROW LEVEL SECURITY;
         UPDATE webhook_endpoints SET position = position - 1 WHERE id = '{}'",
        endpoint.id()
    );
    sqlx::raw_sql(AssertSqlSafe(slow)).execute(&accounts).await.unwrap();
    receiver.received(2, SOON).await;
}
