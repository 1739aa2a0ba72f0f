//! Rows of webhooks that another transaction holds, such as a person's in `psql`.

use std::time::Duration;

use tests::eventually;

use super::{Endpoint, SOON, customer, open_accounts, receiver::Receiver, shared};

#[tokio::test]
async fn a_held_row_of_an_endpoint_delays_no_other_owners_events() {
    let stack = shared().await;
    let (ann, bob) = (customer(stack), customer(stack));
    let (of_ann, of_bob) = (Receiver::start().await, Receiver::start().await);
    let endpoint = Endpoint::create(&ann, &of_ann).await;
    Endpoint::create(&bob, &of_bob).await;
    let mut holder = stack.accounts().await.begin().await.unwrap();
    let hold = "SELECT id FROM webhook_endpoints WHERE id = $1 FOR UPDATE";
    sqlx::query(hold).bind(endpoint.id()).execute(&mut *holder).await.unwrap();
    let mut waiting = open_accounts(&ann, 1).await;
    for number in 1..=3 {
        open_accounts(&bob, 1).await;
        of_bob.received(number, Duration::from_secs(5)).await;
        waiting.extend(open_accounts(&ann, 1).await);
    }
    assert!(of_ann.deliveries().is_empty());
    holder.rollback().await.unwrap();
    of_ann.received_all(&waiting, SOON).await;
    assert_eq!(of_ann.deliveries().len(), waiting.len());
}

#[tokio::test]
async fn a_redelivery_that_was_accepted_is_kept_by_the_clean_up() {
    let stack = shared().await;
    let ann = customer(stack);
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
