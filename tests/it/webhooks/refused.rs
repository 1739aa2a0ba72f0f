//! Receivers that refuse some events, and take others.

use std::time::Duration;

use serde_json::json;
use tests::{Client, Stack, client::new_key, eventually, stack::initialized_folder, wait};

use super::{Endpoint, SOON, customer, open_accounts, receiver::Receiver, shared};

/// More than are sent at a time.
const REFUSED: usize = 20;
const GIVEN_UP: Duration = Duration::from_secs(60);

/// A stack that moves money: its accounts have several events.
async fn start() -> Stack {
    let settings =
        ["PASSBOOK_WEBHOOK_ALLOWED_NETWORKS=127.0.0.1/32", "PASSBOOK_CUSTOMER_RATE_LIMIT=0"];
    let services = ["--account-replicas", "--transaction-replicas", "--webhook-replicas"];
    let mut arguments = vec!["--port", "0"];
    arguments.extend(services.into_iter().flat_map(|replicas| [replicas, "1"]));
    let folder = initialized_folder("webhooks-refused").await;
    Stack::start_under(&folder, &settings.map(str::to_owned), &arguments).await
}

async fn deposit(owner: &Client, account: &str) {
    let record = owner.deposit(account, "1").await;
    assert_eq!(record.text("status"), "SUCCESS", "{record:?}");
}

/// Waits until the receiver has taken this many events of the account.
async fn has_taken(receiver: &Receiver, account: &str, events: usize) {
    wait::eventually_now(&format!("{events} events are taken"), SOON, || {
        let taken = receiver.count_events(|delivery| {
            delivery.is_taken() && delivery.event()["accountId"] == *account
        });
        (taken >= events).then_some(())
    })
    .await;
}

async fn set_state(endpoint: &Endpoint, state: &str) {
    let changed = endpoint.change(&json!({ "state": state })).await;
    assert_eq!(changed.status, 200, "{changed:?}");
}

#[tokio::test]
async fn events_that_a_receiver_refuses_hold_up_no_others_and_are_given_up() {
    let stack = start().await;
    let (owner, receiver) = (Client::merchant(&stack, &new_key()), Receiver::start().await);
    let endpoint = Endpoint::create(&owner, &receiver).await;
    let accounts = open_accounts(&owner, 2).await;
    let [refused, taken] = &accounts[..] else { panic!() };
    receiver.received_all(&accounts, SOON).await;
    receiver.answer_to(refused, 500);
    // The event that would be taken is the last one.
    set_state(&endpoint, "DISABLED").await;
    for _ in 0..REFUSED {
        deposit(&owner, refused).await;
    }
    deposit(&owner, taken).await;
    set_state(&endpoint, "ENABLED").await;
    has_taken(&receiver, taken, 2).await;

    // Three days later, each has one attempt left. A gateway answers for the receiver now.
    receiver.answer_to(refused, 502);
    deposit(&owner, taken).await;
    has_taken(&receiver, taken, 3).await;
    let later = "WITH free AS (
                     UPDATE webhook_endpoints
                     SET retry_at = CASE WHEN failures > 0 THEN not_before ELSE now() END
                     WHERE id = $1 AND lease_until < now()
                     RETURNING id)
                 UPDATE webhook_deliveries SET attempts = 9, next_attempt_at = now()
                 FROM free WHERE endpoint_id = free.id";
    let pool = stack.accounts().await;
    eventually("no attempt is under way", SOON, async || {
        let later = sqlx::query(later).bind(endpoint.id()).execute(&pool).await.unwrap();
        let rows = usize::try_from(later.rows_affected()).unwrap();
        (rows > 0).then(|| assert_eq!(rows, REFUSED))
    })
    .await;
    let path = format!("{}/deliveries?limit=100", endpoint.path);
    // After a pause, retries are spread over a minute.
    let now = "UPDATE webhook_deliveries SET next_attempt_at = now()
               WHERE endpoint_id = $1 AND next_attempt_at IS NOT NULL";
    eventually("the refused events are given up", GIVEN_UP, async || {
        deposit(&owner, taken).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        sqlx::query(now).bind(endpoint.id()).execute(&pool).await.unwrap();
        let page = owner.get(&path).await;
        let deliveries = page.body["items"].as_array().unwrap();
        deliveries.iter().all(|delivery| delivery["state"] == "GIVEN_UP").then_some(())
    })
    .await;
    let number = "SELECT count(*) FROM events WHERE account_id = $1::uuid";
    let number = sqlx::query_scalar(number).bind(taken);
    let number: i64 = number.fetch_one(&pool).await.unwrap();
    has_taken(&receiver, taken, usize::try_from(number).unwrap()).await;
    let given_up = owner.get(&path).await;
    assert_eq!(given_up.body["items"].as_array().unwrap().len(), REFUSED);
}

#[tokio::test]
async fn a_success_after_failures_gives_no_attempts_back_to_what_was_refused_before() {
    let stack = shared().await;
    let ann = customer(stack);
    let receiver = Receiver::start().await;
    receiver.answer(500);
    let endpoint = Endpoint::create(&ann, &receiver).await;
    open_accounts(&ann, 1).await;
    receiver.received(1, SOON).await;
    let pool = stack.accounts().await;
    // It was refused nine times while others were taken. An hour later, the endpoint began to fail.
    let later = "WITH failing AS (
                     UPDATE webhook_endpoints
                     SET failures = 9, failing_since = now() - interval '1 hour',
                         not_before = now(), pause = 0, retry_at = now() + interval '1 hour'
                     WHERE id = $1 AND lease_until < now()
                     RETURNING id)
                 UPDATE webhook_deliveries
                 SET attempts = 9, last_attempt_at = now() - interval '2 hours',
                     next_attempt_at = now() + interval '1 hour', delay = 3600
                 FROM failing WHERE endpoint_id = failing.id";
    eventually("the delivery waits", SOON, async || {
        let later = sqlx::query(later).bind(endpoint.id()).execute(&pool).await.unwrap();
        (later.rows_affected() == 1).then_some(())
    })
    .await;
    receiver.answer(204);
    receiver.received_all(&open_accounts(&ann, 1).await, SOON).await;
    eventually("the endpoint fails no longer", SOON, async || {
        (endpoint.show().await["failures"] == 0).then_some(())
    })
    .await;
    let row = "SELECT attempts, next_attempt_at > now() + interval '50 minutes'
               FROM webhook_deliveries WHERE endpoint_id = $1";
    let row: Option<(i32, bool)> =
        sqlx::query_as(row).bind(endpoint.id()).fetch_optional(&pool).await.unwrap();
    assert_eq!(row, Some((9, true)));
}
