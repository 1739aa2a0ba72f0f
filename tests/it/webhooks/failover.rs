//! A database that has lost the last commits: a promoted standby, or a restored backup.

use std::time::Duration;

use devstack::Fault;
use serde_json::json;
use tests::{Client, Standby, client::new_key, eventually};

use super::{
    Endpoint, SOON, customer, open_accounts,
    receiver::{Receiver, SILENT},
    shared, start_with,
};

/// The time limit of an attempt.
const ATTEMPT: Duration = Duration::from_secs(12);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_of_a_lost_primary_settles_nothing_in_the_promoted_standby() {
    let settings = [format!("PASSBOOK_WEBHOOK_TIMEOUT={}s", ATTEMPT.as_secs())];
    let arguments = ["--faults", "--webhook-replicas", "1"];
    let stack = start_with("webhooks-failover", &arguments, &settings).await;
    let ann = customer(&stack);
    let receiver = Receiver::start().await;
    let endpoint = Endpoint::create(&ann, &receiver).await;
    receiver.received_all(&open_accounts(&ann, 1).await, SOON).await;
    let standby = Standby::start(&stack).await;
    standby.has_caught_up(&stack).await;
    standby.receives_no_more(&stack).await;

    // No standby has this event and the lease.
    receiver.answer(SILENT);
    open_accounts(&ann, 1).await;
    receiver.received(2, SOON).await;
    standby.promote(&stack).await;
    for service in ["account-service-0", "webhook-service-0"] {
        stack.fault(&format!("{service}/postgres"), Fault::Redirect(standby.port())).await;
    }
    // It takes a new fence, as the lost lease did.
    let disabled = eventually("the promoted database serves", ATTEMPT / 2, async || {
        let disabled = endpoint.change(&json!({ "state": "DISABLED" })).await;
        (disabled.status == 200).then_some(disabled)
    })
    .await;
    // The attempt ends meanwhile.
    tokio::time::sleep(ATTEMPT + Duration::from_secs(2)).await;
    assert_eq!(endpoint.show().await, disabled.body);
    receiver.answer(204);
    assert_eq!(endpoint.change(&json!({ "state": "ENABLED" })).await.status, 200);
    receiver.received_all(&open_accounts(&ann, 2).await, SOON).await;
}

#[tokio::test]
async fn a_retry_whose_position_is_now_another_owners_event_is_dropped() {
    let stack = shared().await;
    let name = new_key();
    let (ann, bob) = (customer(stack), Client::customer(stack, &name));
    let (of_ann, of_bob) = (Receiver::start().await, Receiver::start().await);
    let endpoint = Endpoint::create(&ann, &of_ann).await;
    Endpoint::create(&bob, &of_bob).await;
    of_bob.received_all(&open_accounts(&bob, 1).await, SOON).await;
    let accounts = stack.accounts().await;
    // A failed delivery of an event that was lost. Its position was given again.
    let failed = "INSERT INTO webhook_deliveries
                      (endpoint_id, position, attempts, next_attempt_at, last_error, last_attempt_at)
                  SELECT $1, events.position, 1, $3::timestamptz, 'lost', now()
                  FROM events JOIN accounts USING (account_id)
                  WHERE accounts.owner_id = $2
                  ON CONFLICT (endpoint_id, position) DO UPDATE
                  SET next_attempt_at = excluded.next_attempt_at";
    let insert = async |at: Option<&str>| {
        let insert = sqlx::query(failed).bind(endpoint.id()).bind(&name).bind(at);
        assert_eq!(insert.execute(&accounts).await.unwrap().rows_affected(), 1);
    };
    insert(None).await;
    let path = format!("{}/deliveries", endpoint.path);
    assert_eq!(ann.get(&path).await.body["items"], json!([]));
    insert(Some("2026-01-01")).await;
    let due = "UPDATE webhook_endpoints SET retry_at = now() WHERE id = $1";
    sqlx::query(due).bind(endpoint.id()).execute(&accounts).await.unwrap();
    eventually("the retry is dropped", SOON, async || {
        let waits = "SELECT EXISTS (SELECT FROM webhook_deliveries WHERE endpoint_id = $1)";
        let waits = sqlx::query_scalar(waits).bind(endpoint.id());
        let waits: bool = waits.fetch_one(&accounts).await.unwrap();
        (!waits).then_some(())
    })
    .await;
    assert!(of_ann.deliveries().is_empty(), "{:?}", of_ann.deliveries());
}
