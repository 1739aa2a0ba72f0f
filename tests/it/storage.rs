//! The storage of the broker: streams at their limit, a full stream of dead letters, and a disk that
//! was full.

use std::time::Duration;

use async_nats::{HeaderMap, jetstream};
use futures::future::join_all;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::{
    Client, Response, Stack, broker,
    client::new_key,
    eventually, invariants,
    process::{run, signal},
    scale,
    small_disk::BrokerDisk,
    stack::initialized_folder,
};
use time::OffsetDateTime;

use crate::reports::statement;

const SOON: Duration = Duration::from_secs(30);
/// Results: 8 MiB, commands: 4, dead letters: 2. The server: 18 MiB.
const SETTING: &str = "PASSBOOK_STREAM_STORAGE=16MiB";
const RESULTS: &str = "TRANSACTION_RESULT";

async fn start(name: &str) -> Stack {
    Stack::start_under(&initialized_folder(name).await, &[SETTING.to_owned()], &["--port", "0"])
        .await
}

/// Deposits of 1, accepted through one request.
async fn accept(client: &Client, account: &str, count: usize) -> Vec<String> {
    let item = || json!({ "accountId": account, "type": "DEPOSIT", "amount": "1", "idempotencyKey": new_key() });
    let items: Vec<_> = (0..count).map(|_| item()).collect();
    let Response { body, .. } = client.post("/v1/batches", &[], &json!({ "items": items })).await;
    let items = body["items"].as_array().unwrap_or_else(|| panic!("{body}"));
    items.iter().map(|item| item["record"]["recordId"].as_str().unwrap().to_owned()).collect()
}

/// Publishes with a new message id; `None` if the server rejects the message.
async fn try_publish(jetstream: &jetstream::Context, subject: &str, body: Vec<u8>) -> Option<u64> {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", new_key());
    let sent = jetstream.publish_with_headers(subject.to_owned(), headers, body.into()).await;
    sent.unwrap().await.ok().map(|stored| stored.sequence)
}

/// Publishes more results than any limit of the server has room for: known ones, in the form in which
/// they were published.
async fn flood_with_results(jetstream: &jetstream::Context) {
    let last = broker::stream(jetstream, RESULTS).await.state.last_sequence;
    let mut largest = Vec::new();
    for sequence in 1..=last {
        if let Some(message) = broker::message(jetstream, RESULTS, sequence).await
            && message.payload.len() > largest.len()
        {
            largest = message.payload.to_vec();
        }
    }
    assert!(largest.len() > 10_000, "the results do not share messages: {}", largest.len());
    let copies = (20 << 20) / largest.len();
    for _ in 0..copies.div_ceil(50) {
        let copy = || try_publish(jetstream, "transaction.result.deposit", largest.clone());
        join_all((0..50).map(|_| copy())).await;
    }
}

#[tokio::test]
async fn results_are_discarded_at_their_limit_and_asked_for_again() {
    let stack = start("tiny-store").await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    let jetstream = broker::connect(&stack).await;
    for record in accept(&client, &account, 400).await {
        assert_eq!(client.settled(&record).await.text("status"), "SUCCESS");
    }
    // Nobody reads the results of these records before they are discarded.
    let results = jetstream.get_stream(RESULTS).await.unwrap();
    let later = OffsetDateTime::now_utc() + Duration::from_secs(3600);
    results.pause_consumer("account-result-consumer", later).await.unwrap();
    let unread = accept(&client, &account, 50).await;
    let newest = unread.last().unwrap();
    let last_result = eventually("the results are published", SOON, || async {
        broker::newest_with(&jetstream, RESULTS, newest).await
    })
    .await;
    flood_with_results(&jetstream).await;
    let after = broker::stream(&jetstream, RESULTS).await;
    assert!(after.state.bytes <= 8 << 20, "{}", after.state.bytes);
    assert!(after.state.first_sequence > last_result, "{:?}", after.state);

    let meanwhile = accept(&client, &account, 50).await;
    results.resume_consumer("account-result-consumer").await.unwrap();
    for record in unread.iter().chain(&meanwhile) {
        assert_eq!(client.settled(record).await.text("status"), "SUCCESS");
    }
    assert_eq!(client.deposit(&account, "1").await.text("balanceAfter"), "501");
    assert_eq!(broker::dead_letters(&jetstream).await, []);
    invariants::assert_verified(&stack).await;
}

/// The reason of a condition that is down, at one replica.
async fn reason(stack: &Stack, replica: &str, condition: &str) -> Option<String> {
    let file = stack.file();
    let process = file.processes.into_iter().find(|process| process.name == replica)?;
    let response = reqwest::get(format!("{}/readyz", process.admin?)).await.ok()?;
    assert_eq!(response.status(), 200, "the replica is not ready");
    let readiness: Value = serde_json::from_slice(&response.bytes().await.ok()?).unwrap();
    let conditions = readiness["conditions"].as_array()?;
    let down =
        conditions.iter().find(|found| found["name"] == condition && found["up"] == false)?;
    Some(down["reason"].as_str()?.to_owned())
}

/// Whether doctor has a finding with these texts in its check and its detail.
pub(crate) async fn doctor_finds(stack: &Stack, check: &str, detail: &str) -> bool {
    let dir = stack.dir.to_str().unwrap();
    let output = run(&["doctor", "-o", "json", "--dir", dir, "--stream-storage", "16MiB"]).await;
    let checks: Vec<Value> =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    checks.iter().any(|found| {
        found["state"] == "finding"
            && found["check"] == check
            && found["detail"].as_str().unwrap_or_default().contains(detail)
    })
}

const REPLICAS: [&str; 2] = ["transaction-service-0", "transaction-service-1"];

#[tokio::test]
async fn a_full_stream_of_dead_letters_holds_up_only_the_messages_that_need_one() {
    let arguments = ["--port", "0", "--report-replicas", "1"];
    let stack = Stack::start_under(
        &initialized_folder("full-dead-letters").await,
        &[SETTING.to_owned()],
        &arguments,
    )
    .await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    let jetstream = broker::connect(&stack).await;
    assert_eq!(client.deposit(&account, "1").await.text("status"), "SUCCESS");
    let closed = "dead-letter.closed.TRANSACTION.deposit-consumer";
    for size in [300_000, 10_000, 100] {
        while try_publish(&jetstream, closed, vec![b'x'; size]).await.is_some() {}
    }
    assert!(doctor_finds(&stack, "DEAD_LETTER", "of 2097152 bytes").await);

    // Until each replica has one of them in hand.
    let mut bad = 0;
    eventually("each replica keeps a bad message", SOON, || {
        bad += 1;
        let (stack, jetstream) = (&stack, &jetstream);
        async move {
            let command = if bad % 2 == 0 { "garbage" } else { "{}" };
            broker::publish(jetstream, "transaction.deposit", &new_key(), command).await;
            for replica in REPLICAS {
                let reason = reason(stack, replica, "dead-letters").await?;
                let complete =
                    ["DEAD_LETTER", "maximum bytes"].iter().all(|text| reason.contains(text));
                assert!(complete, "{reason}");
            }
            Some(())
        }
    })
    .await;
    // Full size: longer than the ack wait.
    let rounds = if scale::full() { 45 } else { 6 };
    for _ in 0..rounds {
        assert_eq!(client.deposit(&account, "1").await.text("status"), "SUCCESS");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let (unacked, redelivered) =
        broker::unacked(&jetstream, "TRANSACTION", "deposit-consumer").await;
    assert_eq!((unacked, redelivered), (bad, 0));
    an_exhausted_message_holds_up_no_other(&stack, &jetstream).await;
    let job = a_bad_job_holds_up_no_report(&client, &account, &jetstream).await;
    let bad = bad + 2;
    assert!(doctor_finds(&stack, "dead-letters", "maximum bytes").await);

    jetstream.get_stream("DEAD_LETTER").await.unwrap().purge().await.unwrap();
    broker::stream_holds(&jetstream, "DEAD_LETTER", u64::try_from(bad).unwrap(), SOON).await;
    for queue in ["TRANSACTION", "USED_UP", "job"] {
        broker::stream_holds(&jetstream, queue, 0, SOON).await;
    }
    let sequence = broker::newest_with(&jetstream, "DEAD_LETTER", &job).await.unwrap();
    let letter = broker::message(&jetstream, "DEAD_LETTER", sequence).await.unwrap();
    let id = letter.headers.get("Passbook-Message-Id").unwrap();
    assert_eq!(id.as_str(), job, "the dead letter names the first id");
    for replica in REPLICAS {
        eventually("the condition is up", SOON, || async {
            reason(&stack, replica, "dead-letters").await.is_none().then_some(())
        })
        .await;
    }
}

/// The server's advisories name a result, until each replica keeps one of them: its dead letter is
/// not stored.
async fn an_exhausted_message_holds_up_no_other(stack: &Stack, jetstream: &jetstream::Context) {
    let now = OffsetDateTime::now_utc();
    let advise = |sequence| broker::publish_max_deliveries_advisory(jetstream, sequence, now);
    let first = advise(1).await;
    let mut kept = 1;
    eventually("each replica keeps an advisory", SOON, || {
        kept += 1;
        let advise = &advise;
        async move {
            advise(1).await;
            for replica in ["account-service-0", "account-service-1"] {
                reason(stack, replica, "dead-letters").await?;
            }
            Some(())
        }
    })
    .await;
    // Of a message that is gone: nothing is left to do.
    let second = advise(1_000_000).await;
    eventually("the second advisory is done", SOON, || async {
        broker::message(jetstream, "USED_UP", second).await.is_none().then_some(())
    })
    .await;
    assert!(broker::message(jetstream, "USED_UP", first).await.is_some());
    let (unacked, redelivered) =
        broker::unacked(jetstream, "USED_UP", "results-used-up-consumer").await;
    assert_eq!((unacked, redelivered), (kept, 0));
}

/// Gives the id of a message that is no job. A copy of it, with its headers, goes to the end of the
/// queue.
async fn a_bad_job_holds_up_no_report(
    client: &Client,
    account: &str,
    jetstream: &jetstream::Context,
) -> String {
    let id = new_key();
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", id.as_str());
    headers.insert("Origin", "a test");
    let sent = jetstream.publish_with_headers("message.process", headers, id.clone().into()).await;
    sent.unwrap().await.unwrap();
    let report = client.report(&statement(account, &["csv"]), 30).await;
    assert_eq!(report.text("state"), "SUCCEEDED", "{report:?}");
    let copy = eventually("a copy is at the end of the queue", SOON, || async {
        let sequence = broker::newest_with(jetstream, "job", &id).await?;
        let message = broker::message(jetstream, "job", sequence).await?;
        message.headers.get("Nats-Msg-Id")?.as_str().ends_with(".again").then_some(message)
    })
    .await;
    let header = |name| copy.headers.get(name).map(|value| value.as_str().to_owned());
    assert_eq!(header("Origin").as_deref(), Some("a test"));
    assert_eq!(header("Passbook-Message-Id").as_deref(), Some(id.as_str()));
    id
}

#[tokio::test]
async fn doctor_sees_that_the_brokers_disk_was_full_and_a_restart_settles_everything() {
    let Some(disk) = BrokerDisk::mount("broker-disk-full").await else {
        println!("skipped: only root can mount a small disk here");
        return;
    };
    let stack = disk.start().await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    assert_eq!(client.deposit(&account, "1").await.text("status"), "SUCCESS");
    disk.fill(&stack);
    let mut records = accept(&client, &account, 20).await;
    let unhealthy =
        || async { doctor_finds(&stack, "server health", "write error").await.then_some(()) };
    eventually("doctor reports the write error", SOON, unhealthy).await;
    disk.make_room(&stack);
    records.extend(accept(&client, &account, 20).await);
    eventually("doctor still reports the write error", SOON, unhealthy).await;

    // What the liveness probe of the manifests does.
    let before = stack.pid("nats");
    signal(before, Signal::SIGTERM);
    stack.restarted("nats", before, SOON).await;
    for record in &records {
        assert_eq!(client.settled(record).await.text("status"), "SUCCESS");
    }
    assert!(!doctor_finds(&stack, "server health", "").await);
    invariants::assert_verified(&stack).await;
}

#[tokio::test]
async fn the_size_of_an_existing_stream_is_changed_by_the_operator_only() {
    let stack = Stack::start_servers("resized").await;
    let url = stack.file().nats;
    let streams = async |size: &str| {
        let arguments = ["streams", "--nats-url", &url, "--stream-storage", size];
        let output = run(&arguments).await;
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let jetstream = broker::connect(&stack).await;
    let sizes = async || {
        let mut sizes = Vec::new();
        for name in ["TRANSACTION", RESULTS, "job", "DEAD_LETTER", "USED_UP"] {
            sizes.push(broker::stream(&jetstream, name).await.config.max_bytes >> 20);
        }
        sizes
    };
    assert!(streams("16MiB").await.0);
    assert_eq!(sizes().await, [4, 8, 1, 2, 1]);
    assert!(streams("64MiB").await.0);
    assert_eq!(sizes().await, [16, 32, 4, 8, 4]);

    // As a release without limits created it. A service may not change it.
    let mut old = broker::stream(&jetstream, RESULTS).await.config;
    old.max_bytes = -1;
    old.discard = jetstream::stream::DiscardPolicy::New;
    jetstream.update_stream(&old).await.unwrap();
    let results = contract::STANDARD.stream(RESULTS).unwrap();
    runtime::nats::streams::ensure(&jetstream, &[results], &[], 1).await.unwrap();
    assert_eq!(broker::stream(&jetstream, RESULTS).await.config.max_bytes, -1);
    assert!(streams("64MiB").await.0);
    assert_eq!(sizes().await, [16, 32, 4, 8, 4]);
    let repaired = broker::stream(&jetstream, RESULTS).await.config;
    assert_eq!(repaired.discard, jetstream::stream::DiscardPolicy::Old);

    // More than the server has.
    let (is_done, error) = streams("20GiB").await;
    assert!(!is_done);
    for text in ["max_file_store", "PASSBOOK_STREAM_STORAGE"] {
        assert!(error.contains(text), "{error}");
    }
}
