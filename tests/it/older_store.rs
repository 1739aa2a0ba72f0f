//! The store of the broker is replaced by an older copy, while the services run. Acknowledged
//! messages are gone, settled ones are back, and sequences are given to other messages.

use std::{process::Command, time::Duration};

use async_nats::jetstream;
use devstack::Fault;
use serde_json::json;
use tests::{
    Client, Stack, broker, client::new_key, eventually, invariants, scale::size,
    stack::initialized_folder,
};

use crate::reports::statement;

const SOON: Duration = Duration::from_secs(45);
const QUEUES: [(&str, &str); 3] = [
    ("TRANSACTION", "deposit-consumer"),
    ("TRANSACTION_RESULT", "account-result-consumer"),
    ("job", "job_cons"),
];

/// Requests deposits of 1 at once. Gives the records.
async fn accept(client: &Client, account: &str, count: usize) -> Vec<String> {
    let item = || json!({ "accountId": account, "type": "DEPOSIT", "amount": "1", "idempotencyKey": new_key() });
    let items: Vec<_> = (0..count).map(|_| item()).collect();
    let response = client.post("/v1/batches", &[], &json!({ "items": items })).await;
    let items = response.body["items"].as_array().unwrap_or_else(|| panic!("{response:?}"));
    items.iter().map(|item| item["record"]["recordId"].as_str().unwrap().to_owned()).collect()
}

/// Waits until the broker holds the commands of these records.
async fn published(jetstream: &jetstream::Context, records: &[String]) {
    eventually("the commands are published", SOON, || async {
        for record in [records.first()?, records.last()?] {
            broker::newest_with(jetstream, "TRANSACTION", record).await?;
        }
        Some(())
    })
    .await;
}

/// Stops the broker, runs this command in the stack's directory, and starts the broker again.
async fn with_the_store(stack: &Stack, command: &str, meanwhile: impl Future<Output = ()>) {
    stack.fault("nats", Fault::Hold).await;
    meanwhile.await;
    let status = Command::new("sh").args(["-ec", command]).current_dir(&stack.dir).status();
    assert!(status.unwrap().success());
    stack.fault("nats", Fault::Release).await;
}

async fn reconnected(stack: &Stack) -> jetstream::Context {
    eventually("the broker answers", SOON, || async {
        let jetstream = broker::try_connect(stack).await.ok()?;
        jetstream.get_stream("TRANSACTION").await.ok()?;
        Some(jetstream)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_copy_of_the_brokers_store_loses_nothing_and_doubles_nothing() {
    let arguments = ["--port", "0", "--faults", "--report-replicas", "1"];
    let stack = Stack::start_in(&initialized_folder("older-store").await, &arguments).await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    let jetstream = broker::connect(&stack).await;
    client.deposit(&account, "1").await;
    let report = async |wait| client.report(&statement(&account, &["csv"]), wait).await;
    assert_eq!(report(30).await.text("state"), "SUCCEEDED");

    // The copy has commands that are settled after it.
    let paused = stack.pause_workers();
    broker::no_open_pulls(&jetstream, "TRANSACTION", "deposit-consumer").await;
    let mut records = accept(&client, &account, 150).await;
    published(&jetstream, &records).await;
    let poison = new_key();
    broker::publish(&jetstream, "transaction.deposit", &new_key(), poison.clone()).await;
    with_the_store(&stack, "cp -a nats older", async {}).await;
    drop(paused);
    let jetstream = reconnected(&stack).await;
    settled(&client, &records).await;
    for _ in 0..size(5, 2) {
        let more = accept(&client, &account, 20).await;
        settled(&client, &more).await;
        records.extend(more);
        assert_eq!(report(30).await.text("state"), "SUCCEEDED");
    }
    let last = async |jetstream: &jetstream::Context, stream: &str| {
        broker::stream(jetstream, stream).await.state.last_sequence
    };
    let results_before = last(&jetstream, "TRANSACTION_RESULT").await;
    let jobs_before = last(&jetstream, "job").await;

    // The broker has acknowledged these commands, and the copy lacks them.
    let paused = stack.pause_workers();
    broker::no_open_pulls(&jetstream, "TRANSACTION", "deposit-consumer").await;
    let lost = accept(&client, &account, 150).await;
    published(&jetstream, &lost).await;
    let mut open = Vec::new();
    with_the_store(&stack, "rm -r nats; mv older nats", async {
        records.extend(accept(&client, &account, 50).await);
        open.push(report(0).await);
    })
    .await;
    let jetstream = reconnected(&stack).await;
    let older = last(&jetstream, "TRANSACTION_RESULT").await;
    assert!(older < results_before, "{older} of {results_before}");
    drop(paused);
    settled(&client, &records).await;
    settled(&client, &lost).await;
    records.extend(lost);
    // Until old sequences are those of other messages.
    let mut deposits = 0;
    while last(&jetstream, "TRANSACTION_RESULT").await <= results_before + 5 {
        assert_eq!(client.deposit(&account, "1").await.text("status"), "SUCCESS");
        deposits += 1;
    }
    for report in &open {
        let ended = client.report_ended(report.text("reportId"), SOON).await;
        assert_eq!(ended.text("state"), "SUCCEEDED", "{ended:?}");
    }
    while last(&jetstream, "job").await <= jobs_before {
        assert_eq!(report(30).await.text("state"), "SUCCEEDED");
    }
    // Full size: two rounds of the sweep.
    for _ in 0..size(70, 1) {
        assert_eq!(client.deposit(&account, "1").await.text("status"), "SUCCESS");
        deposits += 1;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    for (stream, consumer) in QUEUES {
        broker::all_acked(&jetstream, stream, consumer, SOON).await;
    }
    broker::stream_holds(&jetstream, "TRANSACTION", 0, SOON).await;
    let bodies: Vec<_> =
        broker::dead_letters(&jetstream).await.into_iter().map(|letter| letter.body).collect();
    assert_eq!(bodies, [poison.into_bytes()]);
    let expected = u64::try_from(records.len()).unwrap() + deposits + 1;
    invariants::holds(&stack.ledger().await, "accounts", &account, expected).await.unwrap();
    invariants::assert_verified(&stack).await;
}

async fn settled(client: &Client, records: &[String]) {
    for record in records {
        eventually("the record settles", SOON, || async {
            (client.record(record).await.text("status") == "SUCCESS").then_some(())
        })
        .await;
    }
}
