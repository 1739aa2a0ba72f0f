//! Deliveries that were given up are deleted after 30 days.

use std::time::Duration;

use tests::eventually;

use super::{Endpoint, SOON, customer, open_accounts, receiver::Receiver, start};

#[tokio::test]
async fn a_redelivery_that_was_accepted_is_kept_by_the_clean_up() {
    // Its open transaction holds up the events of a whole stack.
    let stack = start("webhook-clean-up", "1").await;
    let ann = customer(&stack);
    let receiver = Receiver::start().await;
    let endpoint = Endpoint::create(&ann, &receiver).await;
    open_accounts(&ann, 1).await;
    receiver.received(1, SOON).await;
    let accounts = stack.accounts().await;
    let given_up = "INSERT INTO webhook_deliveries
                        (endpoint_id, position, attempts, last_error, last_attempt_at)
                    SELECT id, position, 10, 'e', now() - interval '31 days'
                    FROM webhook_endpoints WHERE id = $1";
    sqlx::query(given_up).bind(endpoint.id()).execute(&accounts).await.unwrap();
    let mut redelivery = accounts.begin().await.unwrap();
    let again = "UPDATE webhook_deliveries SET next_attempt_at = now() + interval '1 hour'
                 WHERE endpoint_id = $1";
    sqlx::query(again).bind(endpoint.id()).execute(&mut *redelivery).await.unwrap();
    // It looks every minute.
    eventually("the clean-up waits for the row", Duration::from_secs(70), async || {
        let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity
                     WHERE wait_event_type = 'Lock' AND query LIKE 'DELETE FROM webhook_deliv%')";
        let waits: bool = sqlx::query_scalar(waits).fetch_one(&accounts).await.unwrap();
        waits.then_some(())
    })
    .await;
    redelivery.commit().await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let kept = "SELECT count(*) FROM webhook_deliveries WHERE endpoint_id = $1";
    let kept = sqlx::query_scalar::<_, i64>(kept).bind(endpoint.id());
    assert_eq!(kept.fetch_one(&accounts).await.unwrap(), 1);
}
