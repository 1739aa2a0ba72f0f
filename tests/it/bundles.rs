//! Messages with several commands or results: each part counts alone.

use std::{collections::HashSet, time::Duration};

use async_nats::jetstream;
use futures::{StreamExt, future::join_all};
use serde_json::{Value, json};
use tests::{
    Client, PendingDeposits, Response, Stack, broker, client::new_key, eventually, invariants,
};

const SOON: Duration = Duration::from_secs(30);
const DEPOSIT: &str = "transaction.deposit";

/// A message with these commands, each with a message id of its own.
fn bundle(commands: &[Value]) -> String {
    let with_id = |command: &Value| {
        let mut command = command.clone();
        if command.is_object() {
            command["messageId"] = json!(new_key());
        }
        command
    };
    json!({ "commands": commands.iter().map(with_id).collect::<Vec<_>>() }).to_string()
}

fn deposit(record: &str, account: &str, amount: &str) -> Value {
    serde_json::from_str(&broker::deposit_command(record, account, amount)).unwrap()
}

/// Deposits of 10, accepted through one request.
async fn accept(client: &Client, account: &str, count: usize) -> Vec<String> {
    let item = || json!({ "accountId": account, "type": "DEPOSIT", "amount": "10", "idempotencyKey": new_key() });
    let items: Vec<_> = (0..count).map(|_| item()).collect();
    let Response { body, .. } = client.post("/v1/batches", &[], &json!({ "items": items })).await;
    let items = body["items"].as_array().unwrap_or_else(|| panic!("{body}"));
    items.iter().map(|item| item["record"]["recordId"].as_str().unwrap().to_owned()).collect()
}

/// The bodies of the messages on a subject, until they have this number of parts.
async fn messages_until(
    messages: &mut async_nats::Subscriber,
    records: &HashSet<String>,
) -> Vec<Value> {
    let mut found = Vec::new();
    let mut open = records.clone();
    while !open.is_empty() {
        let message = tokio::time::timeout(SOON, messages.next()).await.unwrap().unwrap();
        let parts = broker::parts(&message.payload);
        if parts.iter().any(|part| part["recordId"].as_str().is_some_and(|id| open.remove(id))) {
            for part in parts {
                part["recordId"].as_str().map(|id| open.remove(id));
            }
            found.push(serde_json::from_slice(&message.payload).unwrap());
        }
    }
    found
}

#[tokio::test]
async fn records_of_one_commit_share_messages_and_a_single_record_travels_alone() {
    let stack = Stack::shared().await;
    let client = Client::teller(stack);
    let account = client.open_account("KRW").await;
    let jetstream = broker::connect(stack).await;
    let mut commands = jetstream.client().subscribe(DEPOSIT).await.unwrap();
    let mut results = broker::results(&jetstream).await;
    let records = accept(&client, &account, 250).await;
    let ids: HashSet<String> = records.iter().cloned().collect();
    for (messages, field) in [(&mut commands, "commands"), (&mut results, "results")] {
        let messages = messages_until(messages, &ids).await;
        let parts = |message: &Value| message[field].as_array().map_or(1, Vec::len);
        assert!(messages.iter().all(|message| (1..=100).contains(&parts(message))), "{messages:?}");
        // The 250 records take a few commits: far fewer messages than records.
        assert!((3..=50).contains(&messages.len()), "{} {field}", messages.len());
        for part in messages.iter().filter_map(|message| message[field].as_array()).flatten() {
            assert!(part["messageId"].is_string() && part["traceparent"].is_string(), "{part}");
        }
    }
    for record in &records {
        assert_eq!(client.settled(record).await.text("status"), "SUCCESS");
    }
    invariants::holds(&stack.ledger().await, "accounts", &account, 2500).await.unwrap();

    let alone = client.deposit(&account, "10").await;
    let id = alone.text("recordId").to_owned();
    for messages in [&mut commands, &mut results] {
        let messages = messages_until(messages, &HashSet::from([id.clone()])).await;
        assert_eq!(messages[0]["recordId"], id, "{messages:?}");
    }
}

#[tokio::test]
async fn each_part_of_a_bundle_is_judged_alone() {
    let stack = Stack::shared().await;
    let client = Client::teller(stack);
    let (first, second) = (client.open_account("KRW").await, client.open_account("USD").await);
    let jetstream = broker::connect(stack).await;
    let settled = client.deposit(&first, "100").await;
    let [one, two, three] = [(); 3].map(|()| new_key());
    let pending = PendingDeposits::of(&first).not_due();
    pending.store(&stack.accounts().await, [(one.as_str(), 5), (two.as_str(), 6)]).await;
    let dollars = PendingDeposits { currency: "USD", ..PendingDeposits::of(&second).not_due() };
    dollars.store(&stack.accounts().await, [(three.as_str(), 7)]).await;
    let mut of_second = deposit(&three, &second, "7");
    of_second["currency"] = json!("USD");
    let poison = json!({ "recordId": new_key(), "amount": 5 });
    let mut contradicting = broker::command_of(&settled);
    contradicting["amount"] = json!("101");
    let repeated = broker::command_of(&settled);
    let parts = [
        deposit(&one, &first, "5"),
        poison.clone(),
        repeated,
        json!("not an object"),
        contradicting.clone(),
        of_second,
        deposit(&two, &first, "6"),
        deposit(&two, &first, "6"),
    ];
    broker::publish(&jetstream, DEPOSIT, &new_key(), bundle(&parts)).await;
    for (record, amount) in [(&one, "5"), (&two, "6"), (&three, "7.00")] {
        let settled = client.settled(record).await;
        assert_eq!((settled.text("status"), settled.text("amount")), ("SUCCESS", amount));
    }
    // The dead letter of a part has the form of a message with one command.
    for (dead, reason) in
        [(&poison["recordId"], "not a command"), (&contradicting["recordId"], "another movement")]
    {
        let letter = broker::dead_letter(&jetstream, SOON, |body| {
            serde_json::from_slice::<Value>(body).is_ok_and(|body| body["recordId"] == *dead)
        });
        let letter = letter.await;
        assert!(letter.reason.contains(reason), "{}", letter.reason);
    }
    broker::dead_letter(&jetstream, SOON, |body| body == b"\"not an object\"").await;
    let ledger = stack.ledger().await;
    invariants::holds(&ledger, "accounts", &first, 111).await.unwrap();
    invariants::holds(&ledger, "accounts", &second, 7).await.unwrap();
    broker::all_acked(&jetstream, "TRANSACTION", "deposit-consumer", SOON).await;
}

#[tokio::test]
async fn a_bundle_out_of_bounds_is_dead_lettered_as_a_whole() {
    let stack = Stack::shared().await;
    let client = Client::teller(stack);
    let account = client.open_account("KRW").await;
    let jetstream = broker::connect(stack).await;
    let many: Vec<_> = (0..101).map(|_| deposit(&new_key(), &account, "1")).collect();
    let mut large = deposit(&new_key(), &account, "1");
    large["note"] = json!("x".repeat(150_000));
    for (message, reason) in [
        (bundle(&many), "1 to 100 items, not 101"),
        (json!({ "commands": [], "id": new_key() }).to_string(), "1 to 100 items, not 0"),
        (json!({ "commands": { "id": new_key() } }).to_string(), "must be an array"),
        (bundle(&[large]), "at most 131072 bytes"),
    ] {
        broker::publish(&jetstream, DEPOSIT, &new_key(), message.clone()).await;
        let letter = broker::dead_letter(&jetstream, SOON, |body| body == message.as_bytes()).await;
        assert!(letter.reason.contains(reason), "{}", letter.reason);
    }
    assert_eq!(client.account(&account).await.text("balance"), "0");
    let settled = client.deposit(&account, "1").await;
    assert_eq!(settled.text("balanceAfter"), "1");
}

#[tokio::test]
async fn commands_that_are_repeated_alone_and_in_bundles_are_credited_once() {
    let stack = Stack::shared().await;
    let client = Client::teller(stack);
    let account = client.open_account("KRW").await;
    let jetstream = broker::connect(stack).await;
    let records = accept(&client, &account, 20).await;
    let commands: Vec<_> = records.iter().map(|id| deposit(id, &account, "10")).collect();
    let copies = (0..5).flat_map(|_| {
        let alone = commands.iter().map(ToString::to_string);
        alone.chain([bundle(&commands), bundle(&commands[5..15])])
    });
    let publish = copies.map(|message| async {
        broker::publish(&jetstream, DEPOSIT, &new_key(), message).await;
    });
    join_all(publish).await;
    for record in &records {
        assert_eq!(client.settled(record).await.text("status"), "SUCCESS");
    }
    broker::stream_holds(&jetstream, "TRANSACTION", 0, SOON).await;
    let ledger = stack.ledger().await;
    invariants::holds(&ledger, "accounts", &account, 200).await.unwrap();
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM transactions WHERE account_id = $1")
        .bind(uuid::Uuid::parse_str(&account).unwrap())
        .fetch_one(&ledger)
        .await
        .unwrap();
    assert_eq!(rows, 20);
}

#[tokio::test]
async fn a_command_that_fails_by_its_data_is_dead_lettered_alone() {
    let stack = Stack::start("failing-part").await;
    let client = Client::teller(&stack);
    let (good, bad) = (client.open_account("KRW").await, client.open_account("KRW").await);
    let ledger = stack.ledger().await;
    sqlx::query("ALTER TABLE transactions ADD CONSTRAINT not_that CHECK (amount <> 666)")
        .execute(&ledger)
        .await
        .unwrap();
    let (good_record, bad_record, other) = (new_key(), new_key(), new_key());
    let accounts = stack.accounts().await;
    let pending = PendingDeposits::of(&good).not_due();
    pending.store(&accounts, [(good_record.as_str(), 10), (other.as_str(), 20)]).await;
    PendingDeposits::of(&bad).not_due().store(&accounts, [(bad_record.as_str(), 666)]).await;
    let jetstream = broker::connect(&stack).await;
    let parts = [
        deposit(&good_record, &good, "10"),
        deposit(&bad_record, &bad, "666"),
        deposit(&other, &good, "20"),
    ];
    broker::publish(&jetstream, DEPOSIT, &new_key(), bundle(&parts)).await;
    // The others do not wait until the bad one has used up its deliveries.
    for record in [&good_record, &other] {
        assert_eq!(client.settled(record).await.text("status"), "SUCCESS");
    }
    let letter = broker::dead_letter(&jetstream, SOON, |body| {
        serde_json::from_slice::<Value>(body).is_ok_and(|body| body["recordId"] == *bad_record)
    })
    .await;
    assert!(letter.reason.starts_with("failed 3 times"), "{}", letter.reason);
    assert_eq!(broker::dead_letters(&jetstream).await.len(), 1);
    broker::stream_holds(&jetstream, "TRANSACTION", 0, SOON).await;
    invariants::holds(&ledger, "accounts", &good, 30).await.unwrap();
    assert_eq!(client.account(&bad).await.text("balance"), "0");
}

/// The commands in the stream, as the records of each message.
async fn messages_in(jetstream: &jetstream::Context) -> Vec<Vec<String>> {
    let state = broker::stream(jetstream, "TRANSACTION").await.state;
    let mut messages = Vec::new();
    for sequence in state.first_sequence..=state.last_sequence {
        let Some(message) = broker::message(jetstream, "TRANSACTION", sequence).await else {
            continue;
        };
        let parts = broker::parts(&message.payload);
        messages.push(parts.iter().map(|part| part["recordId"].to_string()).collect());
    }
    messages
}

#[tokio::test]
async fn a_record_is_redriven_in_a_bundle_once_and_then_alone() {
    let stack = Stack::start("redriven-alone").await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    let jetstream = broker::connect(&stack).await;
    let paused = stack.pause_workers();
    broker::no_open_pulls(&jetstream, "TRANSACTION", "deposit-consumer").await;
    let records: Vec<_> = (0..5).map(|_| new_key()).collect();
    let pending = PendingDeposits::of(&account);
    let deposits = records.iter().map(|record| (record.as_str(), 10));
    pending.store(&stack.accounts().await, deposits).await;
    // Both replicas redrive, so the first redrives are in one or two messages.
    let messages = eventually("the records are redriven", SOON, || async {
        let messages = messages_in(&jetstream).await;
        (messages.iter().flatten().count() == 5).then_some(messages)
    })
    .await;
    assert!(messages.len() <= 2, "{messages:?}");
    // The messages are lost, and the records become due again.
    jetstream.get_stream("TRANSACTION").await.unwrap().purge().await.unwrap();
    sqlx::query("UPDATE transaction_records SET redrive_at = now() WHERE status = 'PENDING'")
        .execute(&stack.accounts().await)
        .await
        .unwrap();
    let messages = eventually("the records are redriven again", SOON, || async {
        let messages = messages_in(&jetstream).await;
        (messages.iter().flatten().count() >= 5).then_some(messages)
    })
    .await;
    assert!(messages.iter().all(|records| records.len() == 1), "{messages:?}");
    drop(paused);
    for record in &records {
        assert_eq!(client.settled(record).await.text("status"), "SUCCESS");
    }
    invariants::holds(&stack.ledger().await, "accounts", &account, 50).await.unwrap();
}

#[tokio::test]
async fn each_part_of_a_bundle_at_max_deliveries_gets_its_own_dead_letter() {
    let stack = Stack::start("bundle-max-deliveries").await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    let jetstream = broker::connect(&stack).await;
    let paused = stack.pause_workers();
    broker::no_open_pulls(&jetstream, "TRANSACTION", "deposit-consumer").await;
    let records: Vec<_> = (0..3).map(|_| new_key()).collect();
    let commands: Vec<_> = records.iter().map(|id| deposit(id, &account, "10")).collect();
    broker::publish(&jetstream, DEPOSIT, &new_key(), bundle(&commands)).await;
    let consumer = broker::consumer(&jetstream, "TRANSACTION", "deposit-consumer").await;
    for _ in 0..3 {
        broker::fetch_and_nak(&consumer).await;
    }
    drop(paused);
    let letters = eventually("each part is dead-lettered", SOON, || async {
        let letters = broker::dead_letters(&jetstream).await;
        (letters.len() == 3).then_some(letters)
    })
    .await;
    let of = |letter: &broker::DeadLetter| serde_json::from_slice::<Value>(&letter.body).unwrap();
    let found: HashSet<_> = letters.iter().map(|letter| of(letter)["recordId"].clone()).collect();
    assert_eq!(found, records.iter().map(|id| json!(id)).collect());
    for queue in ["TRANSACTION", "USED_UP"] {
        broker::stream_holds(&jetstream, queue, 0, SOON).await;
    }
}
