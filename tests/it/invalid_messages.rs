//! Messages that none of ours wrote.

use std::time::Duration;

use async_nats::jetstream::{
    AckKind, Context,
    consumer::{Consumer, pull},
};
use futures::StreamExt;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use tests::{Client, Stack, broker, checks, client::new_key, eventually, stack::signal};
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

async fn reason_of(stack: &Stack, payload: &str) -> String {
    let jetstream = broker::connect(stack).await;
    eventually("it is a dead letter", Duration::from_secs(15), || async {
        let letters = broker::dead_letters(&jetstream).await;
        letters.into_iter().find(|(body, _)| body == payload.as_bytes()).map(|(_, reason)| reason)
    })
    .await
}

#[tokio::test]
async fn an_invalid_command_is_dead_lettered_and_delays_no_other() {
    let stack = Stack::shared().await;
    let client = Client::teller(stack);
    let account = client.open_account("KRW").await;
    let jetstream = broker::connect(stack).await;
    let record = client.deposit(&account, "100").await;
    let good = broker::command_of(&record);
    let with = |field: &str, value: Value| {
        let mut command = good.clone();
        command[field] = value;
        command["recordId"] = json!(new_key());
        command.to_string()
    };
    let mut contradicting = good.clone();
    contradicting["amount"] = json!("101");
    for (payload, reason) in [
        (format!("no JSON {}", new_key()), "not a command"),
        (with("amount", json!(100)), "expected a string"),
        (with("amount", json!("-100")), "greater than zero"),
        (with("amount", json!("1e400")), "amount"),
        (with("currency", json!("WON")), "currency"),
        (with("type", json!("WITHDRAWAL")), "WITHDRAWAL on the subject transaction.deposit"),
        (contradicting.to_string(), "another movement"),
    ] {
        broker::publish(&jetstream, "transaction.deposit", &new_key(), payload.clone()).await;
        let told = reason_of(stack, &payload).await;
        assert!(told.contains(reason), "{payload}: {told}");
    }
    let after = client.deposit(&account, "1").await;
    assert_eq!(after.text("balanceAfter"), "101");
}

#[tokio::test]
async fn a_poison_message_of_the_largest_size_is_dead_lettered_too() {
    let stack = Stack::shared().await;
    let jetstream = broker::connect(stack).await;
    let largest = jetstream.client().server_info().max_payload;
    let id = new_key();
    // The headers count: this is as large as the server takes it.
    let headers = "NATS/1.0\r\nNats-Msg-Id: \r\n\r\n".len() + id.len();
    let payload = format!("{id}{}", "x".repeat(largest - headers - id.len()));
    broker::publish(&jetstream, "transaction.deposit", &id, payload).await;
    let kept = eventually("it is a dead letter", Duration::from_secs(15), || async {
        let letters = broker::dead_letters(&jetstream).await;
        letters.into_iter().find(|(body, _)| body.starts_with(id.as_bytes()))
    })
    .await;
    assert!(kept.0.len() > largest / 2 && kept.0.len() < largest, "{}", kept.0.len());
    let client = Client::teller(stack);
    let account = client.open_account("KRW").await;
    assert_eq!(client.deposit(&account, "1").await.text("status"), "SUCCESS");
}

/// Has a command delivered as often as it may be, with nobody to settle it, and
/// perhaps the server's advisory lost. Gives it.
async fn use_up(running: &Stack, jetstream: &Context, advisory_lost: bool) -> String {
    let client = Client::teller(running);
    let account = client.open_account("KRW").await;
    let settled = client.deposit(&account, "100").await;
    let workers = ["transaction-service-0", "transaction-service-1"].map(|it| running.pid(it));
    for pid in workers {
        signal(pid, Signal::SIGSTOP);
    }
    let found = || jetstream.get_consumer_from_stream("deposit-consumer", "TRANSACTION");
    eventually("nobody waits for commands", Duration::from_secs(10), || async {
        let consumer: Consumer<pull::Config> = found().await.unwrap();
        (consumer.cached_info().num_waiting == 0).then_some(())
    })
    .await;
    let command = broker::command_of(&settled).to_string();
    broker::publish(jetstream, "transaction.deposit", &new_key(), command.clone()).await;
    // As many workers as there are deliveries take it, and none of them settles it.
    let consumer: Consumer<pull::Config> = found().await.unwrap();
    for _ in 0..3 {
        let mut one = consumer
            .fetch()
            .max_messages(1)
            .expires(Duration::from_secs(5))
            .messages()
            .await
            .unwrap();
        let message = one.next().await.unwrap().unwrap();
        message.ack_with(AckKind::Nak(Some(Duration::from_millis(10)))).await.unwrap();
    }
    if advisory_lost {
        let none = consumer.fetch().max_messages(1).expires(Duration::from_secs(1));
        assert!(none.messages().await.unwrap().next().await.is_none());
        let used_up = jetstream.get_stream("USED_UP").await.unwrap();
        eventually("the server tells of it", Duration::from_secs(10), || async {
            (used_up.purge().await.unwrap().purged == 1).then_some(())
        })
        .await;
    }
    for pid in workers {
        signal(pid, Signal::SIGCONT);
    }
    command
}

#[tokio::test]
async fn a_command_at_max_deliveries_is_dead_lettered_and_leaves_the_queue() {
    let running = Stack::start("used-up").await;
    let jetstream = broker::connect(&running).await;
    let command = use_up(&running, &jetstream, false).await;
    let kept = eventually("it is a dead letter", Duration::from_secs(30), || async {
        let letters = broker::dead_letters(&jetstream).await;
        letters.into_iter().find(|(body, _)| body == command.as_bytes())
    })
    .await;
    assert!(kept.1.contains("delivered 3 times"), "{}", kept.1);
    for stream in ["TRANSACTION", "USED_UP"] {
        eventually("the queue is empty", Duration::from_secs(10), || async {
            (broker::stream(&jetstream, stream).await.state.messages == 0).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_command_at_max_deliveries_is_found_although_its_advisory_was_lost() {
    let running = Stack::start("advisory-lost").await;
    let jetstream = broker::connect(&running).await;
    let command = use_up(&running, &jetstream, true).await;
    assert_eq!(broker::stream(&jetstream, "TRANSACTION").await.state.messages, 1);
    // Two looks, half a minute apart.
    let kept = eventually("it is a dead letter", Duration::from_secs(120), || async {
        let letters = broker::dead_letters(&jetstream).await;
        letters.into_iter().find(|(body, _)| body == command.as_bytes())
    })
    .await;
    assert!(kept.1.contains("delivered no more"), "{}", kept.1);
    eventually("the queue is empty", Duration::from_secs(10), || async {
        (broker::stream(&jetstream, "TRANSACTION").await.state.messages == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_outdated_advisory_does_not_dead_letter_the_message_now_at_its_sequence() {
    let stack = Stack::shared().await;
    let client = Client::teller(stack);
    let account = client.open_account("KRW").await;
    let jetstream = broker::connect(stack).await;
    let mut results = broker::results(&jetstream).await;
    // Results stay in their stream: the older one stands for the message of a stream made anew.
    for (age, letters) in [(time::Duration::DAY, 0), (time::Duration::ZERO, 1)] {
        let record = client.deposit(&account, "100").await.text("recordId").to_owned();
        broker::result_of(&mut results, &record).await;
        let stream = jetstream.get_stream("TRANSACTION_RESULT").await.unwrap();
        let last = stream.cached_info().state.last_sequence;
        let mut place = 0;
        for sequence in (1..=last).rev() {
            let message = stream.get_raw_message(sequence).await.unwrap();
            if String::from_utf8_lossy(&message.payload).contains(&record) {
                place = sequence;
                break;
            }
        }
        let given_up = time::OffsetDateTime::now_utc() - age;
        let advisory = json!({
            "type": "io.nats.jetstream.advisory.v1.max_deliver",
            "timestamp": given_up.format(&Rfc3339).unwrap(),
            "stream": "TRANSACTION_RESULT", "consumer": "account-result-consumer",
            "stream_seq": place, "deliveries": 3,
        });
        let subject =
            "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.TRANSACTION_RESULT.account-result-consumer";
        broker::publish(&jetstream, subject, &new_key(), advisory.to_string()).await;
        eventually("it is worked off", Duration::from_secs(10), || async {
            (broker::stream(&jetstream, "USED_UP").await.state.messages == 0).then_some(())
        })
        .await;
        let kept = broker::dead_letters(&jetstream).await;
        let of_it = kept.iter().filter(|it| String::from_utf8_lossy(&it.0).contains(&record));
        assert_eq!(of_it.count(), letters, "given up at {given_up}");
    }
}

#[tokio::test]
async fn a_forged_result_changes_nothing_and_is_dead_lettered() {
    let stack = Stack::shared().await;
    let client = Client::teller(stack);
    let account = client.open_account("KRW").await;
    let settled = client.deposit(&account, "100").await;
    let forge = |record: &str, status: &str, amount: &str, balance: &str| {
        let success = status == "SUCCESS";
        json!({
            "recordId": record, "transactionId": 1, "accountId": account, "type": "DEPOSIT",
            "amount": amount, "currency": "KRW", "status": status,
            "reason": if success { Value::Null } else { json!("INSUFFICIENT_FUNDS") },
            "balanceAfter": if success { json!(balance) } else { Value::Null },
            "accountSeq": if success { json!(9) } else { Value::Null },
            "processedAt": "2026-01-02T03:04:05Z",
        })
        .to_string()
    };
    let record = settled.text("recordId");
    let jetstream = broker::connect(stack).await;
    for (payload, reason) in [
        (forge(record, "SUCCESS", "100", "1000000"), "settled otherwise"),
        (forge(record, "FAILED", "100", ""), "settled otherwise"),
        (forge(record, "SUCCESS", "101", "101"), "another account, type, amount"),
        (forge(&new_key(), "SUCCESS", "100", "200"), "there is no record"),
        (format!("no JSON {}", new_key()), "not a result"),
    ] {
        broker::publish(&jetstream, "transaction.result.deposit", &new_key(), payload.clone())
            .await;
        let told = reason_of(stack, &payload).await;
        assert!(told.contains(reason), "{payload}: {told}");
    }
    assert_eq!(client.record(record).await.body, settled.body);
    assert_eq!(client.account(&account).await.text("balance"), "100");
    checks::holds(&stack.ledger().await, "accounts", &account, 100).await.unwrap();
}

#[tokio::test]
async fn a_command_without_a_message_id_is_answered_like_any_other() {
    let stack = Stack::shared().await;
    let client = Client::teller(stack);
    let account = client.open_account("KRW").await;
    let settled = client.deposit(&account, "100").await;
    let jetstream = broker::connect(stack).await;
    let mut results = broker::results(&jetstream).await;
    let command = broker::command_of(&settled).to_string();
    jetstream.publish("transaction.deposit", command.into()).await.unwrap().await.unwrap();
    let result = broker::result_of(&mut results, settled.text("recordId")).await;
    assert_eq!(result["transactionId"], settled.body["transactionId"]);
    checks::holds(&stack.ledger().await, "accounts", &account, 100).await.unwrap();
}

#[tokio::test]
async fn results_out_of_order_leave_the_newest_balance() {
    let stack = Stack::shared().await;
    let client = Client::teller(stack);
    let account = client.open_account("KRW").await;
    let records = [new_key(), new_key()];
    let [first, second] = &records;
    let accepted = format!(
        "INSERT INTO transaction_records
             (id, account_id, idempotency_key, request_hash, user_id, type, amount, currency)
         SELECT id, '{account}', id, '', 'teller', 'DEPOSIT', 100, 'KRW'
         FROM unnest(ARRAY['{first}', '{second}']::uuid[]) AS id"
    );
    sqlx::raw_sql(AssertSqlSafe(accepted)).execute(&stack.accounts().await).await.unwrap();
    let decided = format!(
        "INSERT INTO accounts (account_id, currency, balance, account_seq)
         VALUES ('{account}', 'KRW', 200, 2);
         INSERT INTO transactions
             (record_id, account_id, type, amount, currency, status, balance_after, account_seq)
         VALUES ('{first}', '{account}', 'DEPOSIT', 100, 'KRW', 'SUCCESS', 100, 1),
                ('{second}', '{account}', 'DEPOSIT', 100, 'KRW', 'SUCCESS', 200, 2)"
    );
    let ledger = stack.ledger().await;
    sqlx::raw_sql(AssertSqlSafe(decided)).execute(&ledger).await.unwrap();
    let jetstream = broker::connect(stack).await;
    for (seq, record) in [(2, second), (1, first)] {
        let transaction: i64 =
            sqlx::query_scalar("SELECT id FROM transactions WHERE record_id = $1")
                .bind(Uuid::parse_str(record).unwrap())
                .fetch_one(&ledger)
                .await
                .unwrap();
        let result = json!({
            "recordId": record, "transactionId": transaction, "accountId": account,
            "type": "DEPOSIT", "amount": "100", "currency": "KRW", "status": "SUCCESS",
            "reason": null, "balanceAfter": (seq * 100).to_string(), "accountSeq": seq,
            "processedAt": "2026-01-02T03:04:05Z",
        });
        broker::publish(&jetstream, "transaction.result.deposit", &new_key(), result.to_string())
            .await;
        assert_eq!(client.settled(record).await.text("balanceAfter"), (seq * 100).to_string());
        let shown = client.account(&account).await;
        assert_eq!((shown.text("balance"), &shown.body["accountSeq"]), ("200", &json!(2)));
    }
}
