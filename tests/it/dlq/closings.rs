//! How dead letters are closed: by a discard, by several operators at once, after an interrupted
//! replay, and at the limits of the broker.

use std::time::Duration;

use futures::future::join_all;
use nix::{pty::openpty, sys::termios};
use serde_json::json;
use tests::{
    Client, Stack,
    broker::{self, deposit_command},
    client::new_key,
    invariants, process,
};
use uuid::Uuid;

use super::{COMMANDS, dlq, dlq_text, publish_dead_letter, unsent_deposit};

#[tokio::test]
async fn a_discarded_dead_letter_is_kept_with_author_time_and_reason() {
    let stack = Stack::shared().await;
    let jetstream = broker::connect(stack).await;
    let record = new_key();
    let body = deposit_command(&record, &new_key(), "1");
    let id = publish_dead_letter(&jetstream, COMMANDS, "transaction.deposit", &body, &[]).await;
    let is_open = || async { dlq(stack, &["ls", "--record", &record]).await.0 == 1 };

    let (code, _, stderr) = dlq_text(stack, &["discard", &id, "--reason", "a forgery"]).await;
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("--yes"), "{stderr}");
    let (code, _, stderr) = dlq_text(stack, &["discard", &id, "--yes"]).await;
    assert_eq!(code, 2, "without a reason: {stderr}");
    let (code, _, stderr) = dlq_text(stack, &["discard", "--reason", "a forgery", "--yes"]).await;
    assert_eq!(code, 2, "without a dead letter: {stderr}");
    let (code, report) = dlq(stack, &["discard", &id, "--dry-run"]).await;
    assert_eq!((code, &report[0]["outcome"]), (0, &json!("would-discard")), "{report}");
    assert!(is_open().await);

    let reason = "a forgery,\nsays \u{1b}[31mthe bank";
    let discard = ["discard", &id, "9999999", "--reason", reason, "--by", "jun", "--yes"];
    let (code, report) = dlq(stack, &discard).await;
    assert_eq!(report[0]["outcome"], "discarded", "{report}");
    assert_eq!((code, &report[1]["outcome"]), (1, &json!("not-found")), "{report}");
    assert!(!is_open().await);
    let (code, shown) = dlq(stack, &["show", &id]).await;
    assert_eq!((code, &shown["body"]), (0, &json!(body)));
    assert_eq!(shown["closed"]["action"], "discarded", "{shown}");
    assert_eq!(shown["closed"]["by"], "jun", "{shown}");
    assert_eq!(shown["closed"]["because"], "a forgery, says  [31mthe bank", "{shown}");
    let (code, report) =
        dlq(stack, &discard[..2].iter().chain(&discard[3..]).copied().collect::<Vec<_>>()).await;
    assert_eq!((code, &report[0]["outcome"]), (0, &json!("already-closed")), "{report}");
}

#[tokio::test]
async fn discarding_at_a_terminal_asks_for_confirmation() {
    let stack = Stack::shared().await;
    let jetstream = broker::connect(stack).await;
    let record = new_key();
    let body = deposit_command(&record, &new_key(), "1");
    publish_dead_letter(&jetstream, COMMANDS, "transaction.deposit", &body, &[]).await;
    let dir = stack.dir.to_str().unwrap().to_owned();
    for (answer, code, open) in [("n\n", 2, 1), ("\n", 2, 1), ("y\n", 0, 0)] {
        let terminal = openpty(None, None).unwrap();
        let mut mode = termios::tcgetattr(&terminal.slave).unwrap();
        termios::cfmakeraw(&mut mode);
        mode.local_flags |= termios::LocalFlags::ICANON;
        termios::tcsetattr(&terminal.slave, termios::SetArg::TCSANOW, &mode).unwrap();
        nix::unistd::write(&terminal.master, answer.as_bytes()).unwrap();
        let mut command = tokio::process::Command::new(process::passbook());
        command.args(["dlq", "discard", "--record", &record, "--reason", "asked", "--dir", &dir]);
        let output = command.stdin(terminal.slave).output();
        let output = tokio::time::timeout(Duration::from_secs(20), output).await.unwrap().unwrap();
        let question = String::from_utf8(output.stderr).unwrap();
        assert!(question.contains("1 dead letter") && question.contains("[y/N]"), "{question}");
        assert_eq!(output.status.code(), Some(code), "{question}");
        assert_eq!(dlq(stack, &["ls", "--record", &record]).await.0, open, "{answer:?}");
    }
}

#[tokio::test]
async fn of_two_concurrent_closings_of_a_dead_letter_one_wins_and_the_other_is_reported() {
    let stack = Stack::shared().await;
    let jetstream = broker::connect(stack).await;
    for _ in 0..5 {
        let client = Client::teller(stack);
        let account = client.open_account("KRW").await;
        let (record, command) = unsent_deposit(stack, &account).await;
        let id =
            publish_dead_letter(&jetstream, COMMANDS, "transaction.deposit", &command, &[]).await;
        let redrive: &[&str] = &["redrive", &id, "--by", "mina"];
        let discard: &[&str] = &["discard", &id, "--reason", "both", "--by", "jun", "--yes"];
        let closings = [redrive, discard, redrive, discard].map(|closing| dlq(stack, closing));
        let reports = join_all(closings).await;
        let (_, closed) = dlq(stack, &["ls", "--closed", "--record", &record]).await;
        assert_eq!(closed.as_array().unwrap().len(), 1, "{reports:#?}\n{closed:#}");
        let winner = closed[0]["closed"]["action"].as_str().unwrap();
        let actions = ["redriven", "discarded", "redriven", "discarded"];
        for ((code, report), action) in reports.iter().zip(actions) {
            assert_eq!(*code, i32::from(action != winner), "{winner}: {report:#?}");
        }
        assert_eq!(dlq(stack, &["ls", "--record", &record]).await, (0, json!([])));
        let (found, expected) = match winner {
            "redriven" => (client.settled(&record).await, "SUCCESS"),
            _ => (client.record(&record).await, "PENDING"),
        };
        assert_eq!(found.text("status"), expected);
        // The record settles in the end, also after a discard: the redrive sends its command.
        sqlx::query("UPDATE transaction_records SET redrive_at = NULL WHERE id = $1")
            .bind(Uuid::parse_str(&record).unwrap())
            .execute(&stack.accounts().await)
            .await
            .unwrap();
        client.settled(&record).await;
        invariants::holds(&stack.ledger().await, "accounts", &account, 250).await.unwrap();
    }
}

#[tokio::test]
async fn an_interrupted_replay_is_finished_by_the_next_one() {
    let stack = Stack::shared().await;
    let client = Client::teller(stack);
    let account = client.open_account("KRW").await;
    let jetstream = broker::connect(stack).await;
    let (record, command) = unsent_deposit(stack, &account).await;
    let id = publish_dead_letter(&jetstream, COMMANDS, "transaction.deposit", &command, &[]).await;
    // The claim of a replay that was killed before it published the message.
    let stream = jetstream.get_stream("DEAD_LETTER").await.unwrap();
    let dead_letter = stream.get_raw_message(id.parse().unwrap()).await.unwrap();
    let nanos = dead_letter.time.unix_timestamp_nanos();
    let mut headers = dead_letter.headers.clone();
    headers.insert("Passbook-Closed", "redriven");
    headers.insert("Passbook-Closed-By", "mina");
    let subject = format!("dead-letter.closed.{COMMANDS}.{id}.{nanos}");
    let claim = jetstream.publish_with_headers(subject, headers, dead_letter.payload.clone());
    claim.await.unwrap().await.unwrap();

    let (code, report) = dlq(stack, &["discard", &id, "--reason", "no", "--yes"]).await;
    assert_eq!((code, &report[0]["outcome"]), (1, &json!("refused")), "{report}");
    let detail = report[0]["detail"].as_str().unwrap();
    assert!(detail.contains("mina") && detail.contains("dlq redrive"), "{detail}");
    for outcome in ["redriven", "already-closed"] {
        let (code, report) = dlq(stack, &["redrive", &id]).await;
        assert_eq!((code, &report[0]["outcome"]), (0, &json!(outcome)), "{report}");
        assert_eq!(client.settled(&record).await.text("balanceAfter"), "250");
        let (_, closed) = dlq(stack, &["ls", "--closed", "--record", &record]).await;
        assert_eq!(closed.as_array().unwrap().len(), 1, "{closed:#}");
        assert_eq!(closed[0]["closed"]["by"], "mina", "{closed:#}");
        assert_eq!(dlq(stack, &["ls", "--record", &record]).await, (0, json!([])));
    }
    invariants::holds(&stack.ledger().await, "accounts", &account, 250).await.unwrap();
}

#[tokio::test]
async fn dead_letters_at_the_limits_of_the_broker_can_be_closed() {
    let stack = Stack::shared().await;
    let client = Client::teller(stack);
    let account = client.open_account("KRW").await;
    let jetstream = broker::connect(stack).await;
    // Earlier releases repeated headers of any length. The broker's limit is 64 KiB for all.
    let long = "x".repeat(60_000);
    for header in ["Passbook-Message-Id", "tracestate"] {
        let (record, command) = unsent_deposit(stack, &account).await;
        let more = [(header, long.as_str())];
        publish_dead_letter(&jetstream, COMMANDS, "transaction.deposit", &command, &more).await;
        let by = "m".repeat(5000);
        let (code, report) = dlq(stack, &["redrive", "--record", &record, "--by", &by]).await;
        assert_eq!((code, &report[0]["outcome"]), (0, &json!("redriven")), "{header}: {report}");
        assert_eq!(client.settled(&record).await.text("status"), "SUCCESS");
    }
    // The body leaves no room for the operator's name and reason.
    let most = jetstream.client().max_payload() - 500;
    let body = format!("{}{}", new_key(), "y".repeat(most - 36));
    let id = publish_dead_letter(&jetstream, COMMANDS, "transaction.deposit", &body, &[]).await;
    let reason = "z".repeat(600);
    let (code, report) = dlq(stack, &["discard", &id, "--reason", &reason, "--yes"]).await;
    assert_eq!((code, &report[0]["outcome"]), (0, &json!("discarded")), "{report}");
    let (_, shown) = dlq(stack, &["show", &id]).await;
    assert_eq!(shown["truncatedFrom"], most.to_string());
    let kept = shown["body"].as_str().unwrap().len();
    assert!(kept < most && kept > most - 1500, "{kept} of {most}");
}
