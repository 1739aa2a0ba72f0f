//! `passbook dlq`: a person lists, shows, replays and discards dead letters.

mod closings;
mod listing;
mod replays;

use std::process::Output;

use async_nats::{HeaderMap, jetstream};
use serde_json::Value;
use tests::{PendingDeposits, Stack, broker::deposit_command, client::new_key, process};

/// Runs `passbook dlq`. Gives its exit code and its JSON output.
async fn dlq(stack: &Stack, arguments: &[&str]) -> (i32, Value) {
    let dir = stack.dir.to_str().unwrap();
    let output = process::run(&[&["dlq"], arguments, &["-o", "json", "--dir", dir]].concat()).await;
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    (output.status.code().unwrap(), report)
}

/// As [`dlq`], with output for a person. Gives exit code, stdout and stderr.
async fn dlq_text(stack: &Stack, arguments: &[&str]) -> (i32, String, String) {
    let dir = stack.dir.to_str().unwrap();
    let arguments = [&["dlq"], arguments, &["--dir", dir]].concat();
    let Output { status, stdout, stderr } = process::run(&arguments).await;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// Publishes a dead letter as a worker writes it. `queue` is the stream and consumer of the
/// message, `subject` its subject. Gives the dead letter's id.
async fn publish_dead_letter(
    jetstream: &jetstream::Context,
    queue: &str,
    subject: &str,
    body: &str,
    more_headers: &[(&str, &str)],
) -> String {
    let mut headers = HeaderMap::new();
    headers.insert("Passbook-Reason", "delivered 3 times and never settled");
    headers.insert("Passbook-Subject", subject);
    headers.insert("Passbook-Message", format!("TRANSACTION.1.{}", new_key()));
    headers.insert("Passbook-Message-Id", new_key());
    for (name, value) in more_headers {
        headers.insert(*name, *value);
    }
    let subject = format!("dead-letter.{queue}");
    let sent = jetstream.publish_with_headers(subject, headers, body.to_owned().into());
    sent.await.unwrap().await.unwrap().sequence.to_string()
}

/// Stores a PENDING deposit of 250 that is not due for a redrive. Gives its id and command.
async fn unsent_deposit(stack: &Stack, account: &str) -> (String, String) {
    let record = new_key();
    let deposits = PendingDeposits::of(account).not_due();
    deposits.store(&stack.accounts().await, [(record.as_str(), 250)]).await;
    let command = deposit_command(&record, account, "250");
    (record, command)
}

const COMMANDS: &str = "TRANSACTION.deposit-consumer";
const RESULTS: &str = "TRANSACTION_RESULT.account-result-consumer";
