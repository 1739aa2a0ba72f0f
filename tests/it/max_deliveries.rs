//! Messages delivered as often as their consumer allows: the server delivers
//! them no more, and only publishes an advisory.

use std::time::Duration;

use async_nats::jetstream;
use futures::StreamExt;
use tests::{Client, Stack, broker, client::new_key, eventually};
use time::OffsetDateTime;

const SOON: Duration = Duration::from_secs(10);

/// Delivers a command as often as its consumer allows while both replicas of the
/// transaction-service are paused. Gives the command. With `lose_advisory`, removes the server's
/// advisory.
async fn exhaust_deliveries(
    stack: &Stack,
    jetstream: &jetstream::Context,
    lose_advisory: bool,
) -> String {
    let client = Client::teller(stack);
    let account = client.open_account("KRW").await;
    let settled = client.deposit(&account, "100").await;
    let _paused = stack.pause_workers();
    broker::no_open_pulls(jetstream, "TRANSACTION", "deposit-consumer").await;
    let command = broker::command_of(&settled).to_string();
    broker::publish(jetstream, "transaction.deposit", &new_key(), command.clone()).await;
    let consumer = broker::consumer(jetstream, "TRANSACTION", "deposit-consumer").await;
    for _ in 0..3 {
        broker::fetch_and_nak(&consumer).await;
    }
    if lose_advisory {
        let fourth = consumer.fetch().max_messages(1).expires(Duration::from_secs(1));
        assert!(fourth.messages().await.unwrap().next().await.is_none());
        let advisories = jetstream.get_stream("USED_UP").await.unwrap();
        eventually("the server has published its advisory", SOON, || async {
            (advisories.purge().await.unwrap().purged == 1).then_some(())
        })
        .await;
    }
    command
}

#[tokio::test]
async fn a_command_at_max_deliveries_is_dead_lettered_and_leaves_the_queue() {
    let stack = Stack::start("max-deliveries").await;
    let jetstream = broker::connect(&stack).await;
    let command = exhaust_deliveries(&stack, &jetstream, false).await;
    let within = Duration::from_secs(30);
    let dead_letter =
        broker::dead_letter(&jetstream, within, |body| body == command.as_bytes()).await;
    assert!(dead_letter.reason.contains("delivered 3 times"), "{}", dead_letter.reason);
    for queue in ["TRANSACTION", "USED_UP"] {
        broker::stream_holds(&jetstream, queue, 0, SOON).await;
    }
}

#[tokio::test]
async fn a_command_at_max_deliveries_is_found_although_its_advisory_was_lost() {
    let stack = Stack::start("advisory-lost").await;
    let jetstream = broker::connect(&stack).await;
    let command = exhaust_deliveries(&stack, &jetstream, true).await;
    assert_eq!(broker::stream(&jetstream, "TRANSACTION").await.state.messages, 1);
    // The sweep needs two rounds, half a minute apart.
    let within = Duration::from_secs(120);
    let dead_letter =
        broker::dead_letter(&jetstream, within, |body| body == command.as_bytes()).await;
    // Only the advisory could tell the number of deliveries.
    let reason = dead_letter.reason;
    assert!(!reason.is_empty() && !reason.contains("3 times"), "{reason}");
    broker::stream_holds(&jetstream, "TRANSACTION", 0, SOON).await;
}

/// A stream that was deleted and made again counts from one. An advisory older than the message at
/// its sequence is therefore about another message.
#[tokio::test]
async fn an_outdated_advisory_does_not_dead_letter_the_message_now_at_its_sequence() {
    let stack = Stack::shared().await;
    let client = Client::teller(stack);
    let account = client.open_account("KRW").await;
    let jetstream = broker::connect(stack).await;
    let mut results = broker::results(&jetstream).await;
    for (age, expected) in [(time::Duration::DAY, 0), (time::Duration::ZERO, 1)] {
        let record = client.deposit(&account, "100").await.text("recordId").to_owned();
        broker::result_of(&mut results, &record).await;
        let (_, sequence) = broker::publish_result_alone(&jetstream, &record).await;
        let at = OffsetDateTime::now_utc() - age;
        broker::publish_max_deliveries_advisory(&jetstream, sequence, at).await;
        broker::stream_holds(&jetstream, "USED_UP", 0, SOON).await;
        let dead_letters = broker::dead_letters(&jetstream).await;
        let of_record = dead_letters
            .iter()
            .filter(|dead_letter| String::from_utf8_lossy(&dead_letter.body).contains(&record));
        assert_eq!(of_record.count(), expected, "advisory of {at}");
    }
}
