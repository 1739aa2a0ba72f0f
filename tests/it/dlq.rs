//! `passbook dlq`: a person lists, shows, replays and discards dead letters.

use std::{process::Output, time::Duration};

use async_nats::{HeaderMap, jetstream};
use futures::{FutureExt, StreamExt, future::join_all};
use nix::{pty::openpty, sys::termios};
use serde_json::{Value, json};
use tests::{
    Client, PendingDeposits, Stack,
    broker::{self, deposit_command},
    client::new_key,
    eventually, invariants, process,
};
use uuid::Uuid;

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

#[tokio::test]
async fn dead_letters_are_listed_and_shown_with_their_reason() {
    let stack = Stack::start("dead-letters").await;
    let none = dlq_text(&stack, &["ls"]).await;
    assert_eq!((none.0, none.1.lines().count()), (0, 1), "{none:?}");
    let jetstream = broker::connect(&stack).await;
    for poison in ["first \u{1b}[2J\u{9b}31m poison", "second poison"] {
        broker::publish(&jetstream, "transaction.withdrawal", &new_key(), poison).await;
        let within = Duration::from_secs(10);
        broker::dead_letter(&jetstream, within, |body| body == poison.as_bytes()).await;
    }
    let (code, listed) = dlq(&stack, &["ls"]).await;
    assert_eq!(code, 1, "open dead letters are a finding: {listed}");
    let bodies: Vec<_> = listed.as_array().unwrap().iter().map(|letter| &letter["body"]).collect();
    assert_eq!(bodies, ["second poison", "first \u{1b}[2J\u{9b}31m poison"]);
    assert_eq!(listed[0]["consumer"], "withdrawal-consumer");
    assert_eq!(listed[0]["subject"], "transaction.withdrawal");
    // Both reasons begin alike, up to the error of the JSON parser.
    let (reason, _) = listed[0]["reason"].as_str().unwrap().split_once(':').unwrap();
    let upper_case_reason = reason.to_uppercase();
    for (arguments, expected) in [
        (vec!["--limit", "1"], 1),
        (vec!["--consumer", "withdrawal-consumer"], 2),
        (vec!["--consumer", "deposit-consumer"], 0),
        (vec!["--reason", &upper_case_reason], 2),
        (vec!["--reason", "something else"], 0),
        (vec!["--since", "1h"], 2),
        (vec!["--before", "1h"], 0),
    ] {
        let (_, selected) = dlq(&stack, &[&["ls"], arguments.as_slice()].concat()).await;
        assert_eq!(selected.as_array().unwrap().len(), expected, "{arguments:?}");
    }

    let id = listed[1]["id"].to_string();
    let (code, text, _) = dlq_text(&stack, &["show", &id]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains(r"first \u001b[2J\u009b31m poison"), "{text:?}");
    assert!(text.contains(reason), "{text}");
    let (_, shown) = dlq(&stack, &["show", "--reason", reason]).await;
    assert_eq!(shown.as_array().unwrap().len(), 2, "{shown}");
    let unknown = dlq_text(&stack, &["show", "999"]).await;
    assert_eq!(unknown.0, 2, "{unknown:?}");
}

#[tokio::test]
async fn a_dead_letter_with_several_commands_is_previewed_by_each_and_replayed() {
    let stack = Stack::shared().await;
    let client = Client::teller(stack);
    let account = client.open_account("KRW").await;
    let jetstream = broker::connect(stack).await;
    let (first, command) = unsent_deposit(stack, &account).await;
    let (second, another) = unsent_deposit(stack, &account).await;
    let subject = "transaction.deposit";
    // As a version that reads single commands only leaves it.
    let bundle = format!("{{\"commands\":[{command},{another}]}}");
    let id = publish_dead_letter(&jetstream, COMMANDS, subject, &bundle, &[]).await;
    for record in [&first, &second] {
        let (_, listed) = dlq(stack, &["ls", "--record", record]).await;
        assert_eq!(listed[0]["id"].to_string(), id, "{listed}");
    }
    let (_, text, _) = dlq_text(stack, &["show", &id]).await;
    assert!(text.contains("2 in one message"), "{text}");
    let (code, report) = dlq(stack, &["redrive", &id, "--dry-run"]).await;
    assert_eq!((code, &report[0]["outcome"]), (0, &json!("would-redrive")), "{report}");
    let detail = report[0]["detail"].as_str().unwrap();
    assert!(detail.contains(&first) && detail.contains(&second), "{detail}");
    let (code, report) = dlq(stack, &["redrive", &id]).await;
    assert_eq!((code, &report[0]["outcome"]), (0, &json!("redriven")), "{report}");
    for record in [&first, &second] {
        assert_eq!(client.settled(record).await.text("status"), "SUCCESS");
    }
    invariants::holds(&stack.ledger().await, "accounts", &account, 500).await.unwrap();

    // With a command that nobody asked for, or out of bounds.
    let forged = deposit_command(&new_key(), &account, "1");
    let bundle = format!("{{\"commands\":[{command},{forged}]}}");
    let harmful = publish_dead_letter(&jetstream, COMMANDS, subject, &bundle, &[]).await;
    let empty = publish_dead_letter(&jetstream, COMMANDS, subject, "{\"commands\":[]}", &[]).await;
    for (id, reason) in [(&harmful, "nobody asked for"), (&empty, "1 to 100 items, not 0")] {
        let (code, report) = dlq(stack, &["redrive", id]).await;
        assert_eq!((code, &report[0]["outcome"]), (1, &json!("refused")), "{report}");
        assert!(report[0]["detail"].as_str().unwrap().contains(reason), "{report}");
    }
    let both = ["discard", &harmful, &empty, "--reason", "tried", "--yes"];
    assert_eq!(dlq(stack, &both).await.0, 0);
}

#[tokio::test]
async fn a_replayed_command_settles_its_record_once_and_closes_its_dead_letter() {
    let stack = Stack::shared().await;
    let client = Client::teller(stack);
    let account = client.open_account("KRW").await;
    let jetstream = broker::connect(stack).await;
    let (record, command) = unsent_deposit(stack, &account).await;
    let id = publish_dead_letter(&jetstream, COMMANDS, "transaction.deposit", &command, &[]).await;

    let (code, report) = dlq(stack, &["redrive", "--record", &record, "--dry-run"]).await;
    assert_eq!((code, &report[0]["outcome"]), (0, &json!("would-redrive")), "{report}");
    let detail = report[0]["detail"].as_str().unwrap();
    assert!(detail.contains("SUCCESS") && detail.contains("0 → 250"), "{detail}");
    assert_eq!(client.record(&record).await.text("status"), "PENDING");

    let (code, report) = dlq(stack, &["redrive", "--record", &record, "--by", "mina"]).await;
    assert_eq!((code, &report[0]["outcome"]), (0, &json!("redriven")), "{report}");
    let settled = client.settled(&record).await;
    assert_eq!((settled.text("status"), settled.text("balanceAfter")), ("SUCCESS", "250"));
    assert_eq!(dlq(stack, &["ls", "--record", &record]).await, (0, json!([])));
    let (_, closed) = dlq(stack, &["ls", "--closed", "--record", &record]).await;
    assert_eq!(closed[0]["closed"]["action"], "redriven", "{closed}");
    assert_eq!(closed[0]["closed"]["by"], "mina", "{closed}");
    assert_eq!(closed[0]["body"], command);

    // The same command line again, as after a crash, changes nothing.
    let (code, report) = dlq(stack, &["redrive", &id]).await;
    assert_eq!((code, &report[0]["outcome"]), (0, &json!("already-closed")), "{report}");
    let (code, report) = dlq(stack, &["discard", &id, "--reason", "late", "--yes"]).await;
    assert_eq!((code, &report[0]["outcome"]), (1, &json!("closed-otherwise")), "{report}");
    invariants::holds(&stack.ledger().await, "accounts", &account, 250).await.unwrap();

    // Another dead letter of the same record, now decided. The stream still remembers the id of its
    // message.
    let mut results = broker::results(&jetstream).await;
    let known_id = new_key();
    broker::publish(&jetstream, "transaction.deposit", &known_id, command.as_str()).await;
    broker::result_of(&mut results, &record).await;
    let known_id = [("Passbook-Message-Id", known_id.as_str())];
    publish_dead_letter(&jetstream, COMMANDS, "transaction.deposit", &command, &known_id).await;
    let (code, report) = dlq(stack, &["redrive", "--record", &record]).await;
    let detail = report[0]["detail"].as_str().unwrap();
    assert_eq!(code, 0, "{report}");
    assert!(detail.contains("already") && detail.contains("SUCCESS"), "{detail}");
    assert_eq!(broker::result_of(&mut results, &record).await["balanceAfter"], "250");
    invariants::holds(&stack.ledger().await, "accounts", &account, 250).await.unwrap();
}

#[tokio::test]
async fn a_harmful_or_invalid_replay_is_refused_and_the_others_continue() {
    let stack = Stack::start("refused-replays").await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    let settled = client.deposit(&account, "100").await;
    let transaction = stack.transaction_number(settled.text("recordId")).await;
    let jetstream = broker::connect(&stack).await;
    let result = json!({
        "recordId": settled.text("recordId"), "transactionId": transaction,
        "accountId": account, "type": "DEPOSIT", "amount": "100", "currency": "KRW",
        "status": "SUCCESS", "reason": null, "balanceAfter": "100", "accountSeq": 1,
        "processedAt": "2026-01-02T03:04:05Z",
    });
    let mut forged = result.clone();
    forged["balanceAfter"] = json!("1000000");
    let (pending, _) = unsent_deposit(&stack, &account).await;
    let mut undecided = result.clone();
    undecided["recordId"] = json!(pending);
    undecided["amount"] = json!("250");
    let (unknown, unknown_and_cut) = (new_key(), new_key());
    let truncated: &[_] = &[("Passbook-Truncated-From", "2000000")];
    let subjects = ["transaction.deposit", "transaction.result.deposit"];
    for (queue, subject, body, more_headers, reason) in [
        (
            COMMANDS,
            subjects[0],
            deposit_command(&unknown, &account, "7"),
            &[][..],
            "nobody asked for",
        ),
        (
            COMMANDS,
            subjects[0],
            deposit_command(&pending, &account, "251"),
            &[],
            "nobody asked for",
        ),
        (
            COMMANDS,
            subjects[0],
            deposit_command(&unknown_and_cut, &account, "7"),
            truncated,
            "2000000",
        ),
        (COMMANDS, subjects[0], "no JSON".to_owned(), &[], "dead letter"),
        (COMMANDS, "transaction.nowhere", "odd".to_owned(), &[], "not one of the stream"),
        (RESULTS, subjects[1], forged.to_string(), &[], "already SUCCESS"),
        (RESULTS, subjects[1], undecided.to_string(), &[], "did not decide"),
    ] {
        let id = publish_dead_letter(&jetstream, queue, subject, &body, more_headers).await;
        let (code, report) = dlq(&stack, &["redrive", &id]).await;
        assert_eq!((code, &report[0]["outcome"]), (1, &json!("refused")), "{report}");
        assert!(report[0]["detail"].as_str().unwrap().contains(reason), "{reason}: {report}");
    }
    assert_eq!(dlq(&stack, &["ls"]).await.1.as_array().unwrap().len(), 7);
    assert_eq!(dlq(&stack, &["ls", "--closed"]).await, (0, json!([])));

    // Of all dead letters, only this one can be replayed without harm.
    let harmless =
        publish_dead_letter(&jetstream, RESULTS, subjects[1], &result.to_string(), &[]).await;
    let (code, report) = dlq(&stack, &["redrive", "--all"]).await;
    let report = report.as_array().unwrap();
    let replayed: Vec<_> = report.iter().filter(|line| line["outcome"] == "redriven").collect();
    assert_eq!((code, report.len(), replayed.len()), (1, 8, 1), "{report:#?}");
    assert_eq!(replayed[0]["id"].to_string(), harmless);
    assert_eq!(client.account(&account).await.text("balance"), "100");
    invariants::assert_verified(&stack).await;

    // `--force` replays it all the same, and `verify` reports the movement.
    let (code, report) = dlq(&stack, &["redrive", "--record", &unknown, "--force"]).await;
    assert_eq!((code, &report[0]["outcome"]), (0, &json!("redriven")), "{report}");
    eventually("the command has moved money", Duration::from_secs(10), || async {
        invariants::holds(&stack.ledger().await, "accounts", &account, 107).await.ok()
    })
    .await;
    assert_eq!(invariants::verify(&stack).await.0, 1);
}

/// Text from outside must not move the cursor, change colours or the direction of text, or set the
/// title of the terminal.
#[tokio::test]
async fn hostile_dead_letters_are_harmless_to_a_terminal() {
    const HOSTILE: &str = "\u{1b}[2J\u{9b}31m\u{1b}]0;owned\u{7}\u{202e}\r\u{8}";
    let stack = Stack::start("hostile-letters").await;
    let account = Client::teller(&stack).open_account("KRW").await;
    let jetstream = broker::connect(&stack).await;
    let in_header = HOSTILE.replace('\r', "");
    let forged = format!("transaction.{in_header}");
    let reason = [("Passbook-Reason", in_header.as_str())];
    let message = [("Passbook-Message-Id", in_header.as_str())];
    let quoted = serde_json::to_string(HOSTILE).unwrap();
    let hostile_number = deposit_command(&new_key(), &account, "7").replace("\"7\"", &quoted);
    let long = HOSTILE.repeat(900_000 / HOSTILE.len());
    let mut ids = Vec::new();
    for (subject, body, headers) in [
        ("transaction.deposit", long.as_str(), &reason),
        ("transaction.deposit", &hostile_number, &message),
        (&forged, &deposit_command(&new_key(), &account, "7"), &reason),
    ] {
        ids.push(publish_dead_letter(&jetstream, COMMANDS, subject, body, headers).await);
    }
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    let harmless = |c: char| {
        c == '\n'
            || !(c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'))
    };
    let selected = |first: &[&'static str]| [first, &ids].concat();
    for (arguments, bound) in [
        (vec!["ls"], 10_000),
        (selected(&["redrive", "--dry-run"]), 10_000),
        (selected(&["redrive"]), 10_000),
        (selected(&["discard", "--dry-run"]), 10_000),
        // Each byte is shown as six.
        (vec!["show", ids[0]], 6_000_000),
        (vec!["show", ids[1]], 10_000),
        (vec!["show", ids[2]], 10_000),
    ] {
        let (_, stdout, stderr) = dlq_text(&stack, &arguments).await;
        assert!(!stdout.is_empty(), "{arguments:?}: {stderr}");
        let dir = stack.dir.to_str().unwrap();
        let as_json = [&["dlq"], &arguments[..], &["-o", "json", "--dir", dir]].concat();
        let as_json = process::run(&as_json).await;
        let as_json = String::from_utf8([as_json.stdout, as_json.stderr].concat()).unwrap();
        for text in [&stdout, &stderr, &as_json] {
            let wrong = text.chars().find(|&c| !harmless(c));
            assert_eq!(wrong, None, "{arguments:?}");
        }
        assert!(stdout.len() < bound, "{arguments:?}: {} bytes", stdout.len());
    }
}

/// A service may write dead letters, and the operator may publish everything.
#[tokio::test]
async fn a_dead_letter_is_replayed_to_no_subject_outside_its_stream() {
    let stack = Stack::shared().await;
    let jetstream = broker::connect(stack).await;
    let planted = new_key();
    let create = format!("$JS.API.STREAM.CREATE.{planted}");
    let body = json!({ "name": planted, "subjects": ["planted.>"] }).to_string();
    let injected = format!("transaction.result.x {create}");
    let mut answers = jetstream.client().subscribe("_INBOX_operator.answer").await.unwrap();
    let mut ids = Vec::new();
    for (queue, subject) in [
        (COMMANDS, create.as_str()),
        (RESULTS, &injected),
        (RESULTS, "transaction.deposit"),
        (RESULTS, "_INBOX_operator.answer"),
        (RESULTS, "transaction.result.>"),
        ("PLANTED.any", "planted.any"),
        (
            "USED_UP.commands-used-up-consumer",
            "$JS.API.CONSUMER.DELETE.TRANSACTION.deposit-consumer",
        ),
    ] {
        ids.push(publish_dead_letter(&jetstream, queue, subject, &body, &[]).await);
    }
    for force in [&["--force"][..], &[], &["--dry-run"]] {
        let ids: Vec<_> = ids.iter().map(String::as_str).collect();
        let (code, report) = dlq(stack, &[&["redrive"], &ids[..], force].concat()).await;
        assert_eq!((code, report.as_array().unwrap().len()), (1, ids.len()), "{report:#}");
        for refused in report.as_array().unwrap() {
            assert_eq!(refused["outcome"], "refused", "{force:?}: {refused:#}");
            assert!(refused["detail"].as_str().unwrap().contains("not one of the stream"));
        }
    }
    assert!(jetstream.get_stream(&planted).await.is_err());
    broker::consumer(&jetstream, "TRANSACTION", "deposit-consumer").await;
    assert!(answers.next().now_or_never().is_none());
    let discard = ["discard", "--reason", "forged", "--yes"];
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    assert_eq!(dlq(stack, &[&discard[..1], &ids, &discard[1..]].concat()).await.0, 0);
}

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
async fn a_row_that_can_not_be_read_concerns_its_own_dead_letter_only() {
    let stack = Stack::start("dead-letters-invalid-row").await;
    let account = Client::teller(&stack).open_account("KRW").await;
    let jetstream = broker::connect(&stack).await;
    let mut ids = Vec::new();
    for currency in ["XXX", "KRW"] {
        let (record, command) = unsent_deposit(&stack, &account).await;
        sqlx::query("UPDATE transaction_records SET currency = $2 WHERE id = $1::uuid")
            .bind(&record)
            .bind(currency)
            .execute(&stack.accounts().await)
            .await
            .unwrap();
        ids.push(
            publish_dead_letter(&jetstream, COMMANDS, "transaction.deposit", &command, &[]).await,
        );
    }
    let (code, report) = dlq(&stack, &["redrive", "--dry-run", &ids[0], &ids[1]]).await;
    let outcomes = (&report[0]["outcome"], &report[1]["outcome"]);
    assert_eq!((code, outcomes), (1, (&json!("refused"), &json!("would-redrive"))), "{report}");
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
