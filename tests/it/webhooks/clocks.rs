//! Times that the database's clock wrote before it jumped back.

use std::time::Duration;

use runtime::postgres::PgPool;
use tests::{eventually, faketime::Clock, stack::folder};

use super::{Endpoint, SOON, customer, open_accounts, receiver::Receiver, start_with};

/// Waits until the database's clock is ahead by these hours.
async fn database_is_ahead(accounts: &PgPool, hours: f64) {
    let ahead = "SELECT extract(epoch FROM clock_timestamp())::float8";
    eventually(&format!("the database's clock is {hours} hours ahead"), SOON, async || {
        let database: f64 = sqlx::query_scalar(ahead).fetch_one(accounts).await.unwrap();
        let here = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        ((database - here - hours * 3600.0).abs() < 60.0).then_some(())
    })
    .await;
    // Each process of the server reads the clock's file for itself, once a second.
    tokio::time::sleep(Duration::from_secs(3)).await;
}

#[tokio::test]
async fn after_the_databases_clock_jumps_back_webhooks_go_on_within_a_minute() {
    let clock = Clock::right(folder("webhooks-clock").join("clock"), "postgres");
    let stack = start_with("webhooks-clock", &["--webhook-replicas", "1"], &clock.settings()).await;
    let accounts = stack.accounts().await;
    let ann = customer(&stack);
    let [healthy, failing, left] =
        [Receiver::start().await, Receiver::start().await, Receiver::start().await];
    Endpoint::create(&ann, &healthy).await;
    Endpoint::create(&ann, &failing).await;
    let left_endpoint = Endpoint::create(&ann, &left).await;
    failing.answer(500);
    let mut opened = open_accounts(&ann, 1).await;
    for receiver in [&healthy, &failing, &left] {
        receiver.received(1, SOON).await;
    }
    failing.answer(204);
    eventually("its lease has ended", SOON, async || {
        left_endpoint.show().await["lastDeliveredAt"].is_string().then_some(())
    })
    .await;
    // As if its replica had been killed.
    let leased = "UPDATE webhook_endpoints
                  SET lease_until = clock_timestamp() + interval '60 seconds' WHERE id = $1";
    sqlx::query(leased).bind(left_endpoint.id()).execute(&accounts).await.unwrap();
    clock.jump("-6h");
    database_is_ahead(&accounts, -6.0).await;
    opened.extend(open_accounts(&ann, 2).await);
    for receiver in [&healthy, &failing] {
        receiver.received_all(&opened, Duration::from_secs(60)).await;
    }
    eventually("the lease ends in a minute", SOON, async || {
        let ends = "SELECT lease_until <= clock_timestamp() + interval '1 minute'
                    FROM webhook_endpoints WHERE id = $1";
        let ends = sqlx::query_scalar(ends).bind(left_endpoint.id());
        let ends: bool = ends.fetch_one(&accounts).await.unwrap();
        ends.then_some(())
    })
    .await;
    // Forward again.
    clock.jump("+0");
    database_is_ahead(&accounts, 0.0).await;
    opened.extend(open_accounts(&ann, 1).await);
    for receiver in [&healthy, &failing] {
        receiver.received_all(&opened, SOON).await;
    }
}
