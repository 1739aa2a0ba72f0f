//! Messages that the broker or a service can't take as they are: too large, or refused. They
//! hold up no other message.

use std::{
    fs,
    time::{Duration, Instant},
};

use async_nats::jetstream::Context;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::{
    Client, Stack, broker,
    client::new_key,
    eventually, invariants,
    memory::MemorySampler,
    metrics::Scrape,
    process::{Paused, signal},
    scale::size,
    stack::initialized_folder,
};

use crate::{reports::statement, storage::doctor_finds};

const DEPOSIT: &str = "transaction.deposit";
const SOON: Duration = Duration::from_secs(30);
/// The memory limit of a pod of the transaction-service, in MiB.
const POD: u64 = 128;

/// Changes the broker's configuration, and waits until it is read again.
async fn reconfigure(stack: &Stack, jetstream: &Context, change: impl FnOnce(&mut Value)) {
    let file = stack.dir.join("nats.conf");
    let mut configuration = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    change(&mut configuration);
    fs::write(&file, configuration.to_string()).unwrap();
    let variables = format!("{}/varz", stack.file().nats_monitor);
    let loaded = || async {
        let variables = reqwest::get(&variables).await.unwrap().bytes().await.unwrap();
        serde_json::from_slice::<Value>(&variables).unwrap()["config_load_time"].clone()
    };
    let before = loaded().await;
    signal(stack.pid("nats"), Signal::SIGHUP);
    eventually("the broker reads its configuration again", SOON, || async {
        (loaded().await != before).then_some(())
    })
    .await;
    // JetStream may not answer for a moment.
    eventually("the streams answer", SOON, || async {
        jetstream.get_stream("TRANSACTION").await.ok()
    })
    .await;
}

/// Sets the maximum size of a message of a stream, in bytes; -1: none.
async fn set_max_size(jetstream: &Context, stream: &str, bytes: i32) {
    let mut config = broker::stream(jetstream, stream).await.config;
    config.max_message_size = bytes;
    jetstream.update_stream(config).await.unwrap();
}

/// Publishes a poison message of this size. Gives its beginning.
async fn publish_poison(jetstream: &Context, bytes: usize) -> String {
    let id = new_key();
    let body = format!("{id}{}", "x".repeat(bytes - id.len()));
    broker::publish(jetstream, DEPOSIT, &id, body).await;
    id
}

/// The size of the dead letter of a poison message.
async fn dead_letter_of(jetstream: &Context, poison: &str) -> usize {
    let letter = broker::dead_letter(jetstream, SOON, |body| body.starts_with(poison.as_bytes()));
    letter.await.body.len()
}

/// Requests deposits of 1 at once. Gives the records.
async fn accept(client: &Client, account: &str, count: usize) -> Vec<String> {
    let item = || json!({ "accountId": account, "type": "DEPOSIT", "amount": "1", "idempotencyKey": new_key() });
    let items: Vec<_> = (0..count).map(|_| item()).collect();
    let response = client.post("/v1/batches", &[], &json!({ "items": items })).await;
    let items = response.body["items"].as_array().unwrap_or_else(|| panic!("{response:?}"));
    items.iter().map(|item| item["record"]["recordId"].as_str().unwrap().to_owned()).collect()
}

async fn all_settle(client: &Client, records: &[String]) {
    for record in records {
        assert_eq!(client.settled(record).await.text("status"), "SUCCESS");
    }
}

async fn refused(stack: &Stack, kind: &str) -> f64 {
    let mut refused = 0.0;
    for replica in ["transaction-service-0", "transaction-service-1"] {
        let scrape = Scrape::of(stack, replica).await;
        refused += scrape.sum("passbook_messages_refused_total", &[("kind", kind)]).unwrap();
    }
    refused
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_the_broker_refuses_hold_up_no_other() {
    let stack = Stack::start("refused-messages").await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    let jetstream = broker::connect(&stack).await;
    client.deposit(&account, "1").await;

    // The server's limit is lowered while larger messages wait in the streams.
    let paused = stack.pause_workers();
    let mut records = accept(&client, &account, 250).await;
    let poison = publish_poison(&jetstream, 900_000).await;
    reconfigure(&stack, &jetstream, |config| config["max_payload"] = json!(16_384)).await;
    drop(paused);
    all_settle(&client, &records).await;
    let size = dead_letter_of(&jetstream, &poison).await;
    assert!((8_000..16_384).contains(&size), "{size}");
    records = accept(&client, &account, 250).await;
    all_settle(&client, &records).await;
    reconfigure(&stack, &jetstream, |config| {
        config.as_object_mut().unwrap().remove("max_payload");
    })
    .await;

    // Streams with a limit of their own: results travel alone, a dead letter is truncated.
    set_max_size(&jetstream, "TRANSACTION_RESULT", 1000).await;
    set_max_size(&jetstream, "DEAD_LETTER", 2000).await;
    records = accept(&client, &account, 250).await;
    let poison = publish_poison(&jetstream, 50_000).await;
    all_settle(&client, &records).await;
    let size = dead_letter_of(&jetstream, &poison).await;
    assert!((100..2000).contains(&size), "{size}");
    set_max_size(&jetstream, "DEAD_LETTER", -1).await;

    // No result fits. Other messages of the same worker go on.
    set_max_size(&jetstream, "TRANSACTION_RESULT", 100).await;
    let pending = accept(&client, &account, 1).await;
    eventually("its result is refused", SOON, || async {
        (refused(&stack, "size").await > 0.0).then_some(())
    })
    .await;
    let poison = publish_poison(&jetstream, 1000).await;
    assert_eq!(dead_letter_of(&jetstream, &poison).await, 1000);
    set_max_size(&jetstream, "TRANSACTION_RESULT", -1).await;
    all_settle(&client, &pending).await;

    // No permission for dead letters: there is no PubAck, and no answer either.
    let permission = |config: &mut Value, from: &str, to: &str| {
        let text = config.to_string().replace(from, to);
        *config = serde_json::from_str(&text).unwrap();
    };
    let (allowed, forbidden) = ("dead-letter.TRANSACTION.>", "dead-letter.nothing.>");
    reconfigure(&stack, &jetstream, |config| permission(config, allowed, forbidden)).await;
    let poison = publish_poison(&jetstream, 1000).await;
    eventually("its dead letter is refused", SOON, || async {
        (refused(&stack, "permission").await > 0.0).then_some(())
    })
    .await;
    for _ in 0..3 {
        assert_eq!(client.deposit(&account, "1").await.text("status"), "SUCCESS");
    }
    reconfigure(&stack, &jetstream, |config| permission(config, forbidden, allowed)).await;
    assert_eq!(dead_letter_of(&jetstream, &poison).await, 1000);
    broker::stream_holds(&jetstream, "TRANSACTION", 0, SOON).await;
    invariants::holds(&stack.ledger().await, "accounts", &account, 755).await.unwrap();
    invariants::assert_verified(&stack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_of_the_largest_size_fits_the_memory_limit_and_uses_up_no_good_delivery() {
    // One worker gets all of them.
    let replicas = ["--account-replicas", "1", "--transaction-replicas", "1"];
    let arguments = [&["--port", "0"], &replicas[..]].concat();
    let stack = Stack::start_in(&initialized_folder("large-poison").await, &arguments).await;
    let worker = "transaction-service-0";
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    let jetstream = broker::connect(&stack).await;
    client.deposit(&account, "1").await;
    let largest = jetstream.client().max_payload() - 200;
    let poison = size(200, 150);
    let memory = MemorySampler::start(&stack);
    let paused = Paused::new([stack.pid(worker)]);
    let mut records = Vec::new();
    for at in 0..poison {
        publish_poison(&jetstream, largest).await;
        if at % 4 == 0 {
            records.extend(accept(&client, &account, 10).await);
        }
    }
    drop(paused);
    all_settle(&client, &records).await;
    broker::stream_holds(&jetstream, "DEAD_LETTER", poison, SOON * 3).await;
    broker::stream_holds(&jetstream, "TRANSACTION", 0, SOON).await;
    let peaks = memory.finish().await;
    println!("{poison} poison messages of {largest} bytes; peaks in MiB: {peaks:?}");
    assert!(peaks.values().all(|peak| *peak < POD), "{peaks:?}");
    let redelivered = Scrape::of(&stack, worker).await.sum("passbook_redeliveries_total", &[]);
    assert_eq!(redelivered, Some(0.0));
    invariants::assert_verified(&stack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_below_a_single_message_is_named_and_once_it_is_raised_everything_settles() {
    let replicas = ["--account-replicas", "--transaction-replicas", "--report-replicas"];
    let replicas = replicas.into_iter().flat_map(|service| [service, "1"]);
    let arguments: Vec<_> = ["--port", "0"].into_iter().chain(replicas).collect();
    let stack = Stack::start_in(&initialized_folder("lowered-limit").await, &arguments).await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    let jetstream = broker::connect(&stack).await;
    client.deposit(&account, "1").await;
    let paused = Paused::new([stack.pid("transaction-service-0")]);
    let mut records = accept(&client, &account, 20).await;
    eventually("its commands are published", SOON, || async {
        broker::newest_with(&jetstream, "TRANSACTION", records.last()?).await
    })
    .await;
    reconfigure(&stack, &jetstream, |config| config["max_payload"] = json!(256)).await;
    drop(paused);
    // Neither a command, nor a result, nor a dead letter fits.
    records.extend(accept(&client, &account, 20).await);
    let poison = new_key();
    broker::publish(&jetstream, DEPOSIT, &new_key(), poison.clone()).await;
    for service in ["account-service-0", "transaction-service-0"] {
        let reason =
            eventually("the condition is down", SOON, || async { down(&stack, service).await })
                .await;
        assert!(reason.contains("256") && reason.contains("raise"), "{reason}");
    }
    assert!(doctor_finds(&stack, "max_payload", "256").await);
    let before = refusals(&stack).await;
    // A job fits.
    let report = client.report(&statement(&account, &["csv"]), 30).await;
    assert_eq!(report.text("state"), "SUCCEEDED", "{report:?}");
    tokio::time::sleep(Duration::from_secs(size(60, 5))).await;
    let refusals = refusals(&stack).await - before;
    println!("{refusals} refusals");
    assert!(refusals < size(2000.0, 300.0), "{refusals} refusals");

    reconfigure(&stack, &jetstream, |config| {
        config.as_object_mut().unwrap().remove("max_payload");
    })
    .await;
    let begun = Instant::now();
    eventually("every record settles", SOON * 3, || async {
        for record in &records {
            if client.record(record).await.text("status") != "SUCCESS" {
                return None;
            }
        }
        Some(())
    })
    .await;
    println!("all settled after {:.1?}", begun.elapsed());
    // Not all of its body fitted beside the headers.
    let is_cut = |letter: &broker::DeadLetter| poison.as_bytes().starts_with(&letter.body);
    eventually("the poison is dead-lettered", SOON, || async {
        broker::dead_letters(&jetstream).await.iter().any(is_cut).then_some(())
    })
    .await;
    for service in ["account-service-0", "transaction-service-0"] {
        eventually("the condition is up", SOON, || async {
            down(&stack, service).await.is_none().then_some(())
        })
        .await;
    }
    broker::stream_holds(&jetstream, "TRANSACTION", 0, SOON).await;
    invariants::assert_verified(&stack).await;
}

/// The reason of the condition `max-payload`, if it is down.
async fn down(stack: &Stack, service: &str) -> Option<String> {
    let file = stack.file();
    let process = file.processes.into_iter().find(|process| process.name == service)?;
    let response = reqwest::get(format!("{}/readyz", process.admin?)).await.ok()?;
    let readiness: Value = serde_json::from_slice(&response.bytes().await.ok()?).ok()?;
    let mut conditions = readiness["conditions"].as_array()?.iter();
    let found = conditions.find(|found| found["name"] == "max-payload" && found["up"] == false)?;
    Some(found["reason"].as_str()?.to_owned())
}

/// The refused messages of both services.
async fn refusals(stack: &Stack) -> f64 {
    let mut refused = 0.0;
    for service in ["account-service-0", "transaction-service-0"] {
        let scrape = Scrape::of(stack, service).await;
        refused += scrape.sum("passbook_messages_refused_total", &[]).unwrap();
    }
    refused
}
