//! `passbook dlq`: what people see of messages that could not be processed, and
//! what they can do about them.

use std::{process::Output, time::Duration};

use async_nats::{HeaderMap, jetstream};
use futures::future::join_all;
use nix::{pty::openpty, sys::termios};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use tests::{Client, Stack, broker, checks, client::new_key, eventually, stack};
use uuid::Uuid;

/// Runs `passbook dlq`. Gives its exit code and what it printed as JSON.
async fn dlq(running: &Stack, arguments: &[&str]) -> (i32, Value) {
    let dir = running.dir.to_str().unwrap();
    let output = stack::run(&[&["dlq"], arguments, &["-o", "json", "--dir", dir]].concat()).await;
    let told = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    (output.status.code().unwrap(), told)
}

/// As a person runs it.
async fn dlq_text(running: &Stack, arguments: &[&str]) -> (i32, String, String) {
    let dir = running.dir.to_str().unwrap();
    let arguments = [&["dlq"], arguments, &["--dir", dir]].concat();
    let Output { status, stdout, stderr } = stack::run(&arguments).await;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// A dead letter as a worker writes it. Gives its id.
async fn keep(
    jetstream: &jetstream::Context,
    place: &str,
    subject: &str,
    body: &str,
    more: &[(&str, &str)],
) -> String {
    let mut headers = HeaderMap::new();
    headers.insert("Passbook-Reason", "delivered 3 times and never settled");
    headers.insert("Passbook-Subject", subject);
    headers.insert("Passbook-Message", format!("TRANSACTION.1.{}", new_key()));
    headers.insert("Passbook-Message-Id", new_key());
    for (name, value) in more {
        headers.insert(*name, *value);
    }
    let subject = format!("dead-letter.{place}");
    let sent = jetstream.publish_with_headers(subject, headers, body.to_owned().into());
    sent.await.unwrap().await.unwrap().sequence.to_string()
}

/// A PENDING deposit of 250 that nobody sends, and its command.
async fn unsent_deposit(stack: &Stack, account: &str) -> (String, String) {
    let record = new_key();
    let insert = format!(
        "INSERT INTO transaction_records
             (id, account_id, idempotency_key, request_hash, user_id, type, amount, currency, redrive_at)
         VALUES ('{record}', '{account}', '{record}', '', 'teller', 'DEPOSIT', 250, 'KRW',
                 now() + interval '1 hour')"
    );
    sqlx::raw_sql(AssertSqlSafe(insert)).execute(&stack.accounts().await).await.unwrap();
    let command = command(&record, account, "250");
    (record, command)
}

fn command(record: &str, account: &str, amount: &str) -> String {
    json!({
        "recordId": record, "accountId": account, "userId": "teller", "type": "DEPOSIT",
        "amount": amount, "currency": "KRW", "requestedAt": "2026-01-02T03:04:05Z",
    })
    .to_string()
}

const COMMANDS: &str = "TRANSACTION.deposit-consumer";
const RESULTS: &str = "TRANSACTION_RESULT.account-result-consumer";

#[tokio::test]
async fn dead_letters_are_listed_and_shown_with_their_reason() {
    let running = Stack::start("dead-letters").await;
    let none = dlq_text(&running, &["ls"]).await;
    assert_eq!((none.0, none.1.as_str()), (0, "no dead letters\n"));
    let jetstream = broker::connect(&running).await;
    for poison in ["first \u{1b}[2J\u{9b}31m poison", "second poison"] {
        broker::publish(&jetstream, "transaction.withdrawal", &new_key(), poison).await;
        eventually("it is kept", Duration::from_secs(10), || async {
            let letters = broker::dead_letters(&jetstream).await;
            letters.iter().any(|(body, _)| body == poison.as_bytes()).then_some(())
        })
        .await;
    }
    let (code, letters) = dlq(&running, &["ls"]).await;
    assert_eq!(code, 1, "some are a finding: {letters}");
    let bodies: Vec<_> = letters.as_array().unwrap().iter().map(|it| &it["body"]).collect();
    assert_eq!(bodies, ["second poison", "first \u{1b}[2J\u{9b}31m poison"]);
    assert_eq!(letters[0]["consumer"], "withdrawal-consumer");
    assert_eq!(letters[0]["subject"], "transaction.withdrawal");
    for (arguments, wanted) in [
        (vec!["--limit", "1"], 1),
        (vec!["--consumer", "withdrawal-consumer"], 2),
        (vec!["--consumer", "deposit-consumer"], 0),
        (vec!["--reason", "Not A Command"], 2),
        (vec!["--reason", "something else"], 0),
        (vec!["--since", "1h"], 2),
        (vec!["--before", "1h"], 0),
    ] {
        let (_, some) = dlq(&running, &[&["ls"], arguments.as_slice()].concat()).await;
        assert_eq!(some.as_array().unwrap().len(), wanted, "{arguments:?}");
    }

    let id = letters[1]["id"].to_string();
    let (code, text, _) = dlq_text(&running, &["show", &id]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains(r"first \u001b[2J\u009b31m poison"), "{text:?}");
    assert!(text.contains("not a command"), "{text}");
    let (_, shown) = dlq(&running, &["show", "--reason", "not a command"]).await;
    assert_eq!(shown.as_array().unwrap().len(), 2, "{shown}");
    let unknown = dlq_text(&running, &["show", "999"]).await;
    assert_eq!(unknown.0, 2, "{unknown:?}");
}

#[tokio::test]
async fn a_replayed_command_settles_its_record_once_and_closes_its_dead_letter() {
    let running = Stack::shared().await;
    let client = Client::teller(running);
    let account = client.open_account("KRW").await;
    let jetstream = broker::connect(running).await;
    let (record, command) = unsent_deposit(running, &account).await;
    let id = keep(&jetstream, COMMANDS, "transaction.deposit", &command, &[]).await;

    let (code, told) = dlq(running, &["redrive", "--record", &record, "--dry-run"]).await;
    assert_eq!((code, &told[0]["outcome"]), (0, &json!("would-redrive")), "{told}");
    let detail = told[0]["detail"].as_str().unwrap();
    assert!(detail.contains("would be decided SUCCESS; balance now 0 → 250"), "{detail}");
    assert_eq!(client.record(&record).await.text("status"), "PENDING");

    let (code, told) = dlq(running, &["redrive", "--record", &record, "--by", "mina"]).await;
    assert_eq!((code, &told[0]["outcome"]), (0, &json!("redriven")), "{told}");
    let settled = client.settled(&record).await;
    assert_eq!((settled.text("status"), settled.text("balanceAfter")), ("SUCCESS", "250"));
    assert_eq!(dlq(running, &["ls", "--record", &record]).await, (0, json!([])));
    let (_, closed) = dlq(running, &["ls", "--closed", "--record", &record]).await;
    assert_eq!(closed[0]["closed"]["action"], "redriven", "{closed}");
    assert_eq!(closed[0]["closed"]["by"], "mina", "{closed}");
    assert_eq!(closed[0]["body"], command);

    // The same command again, as after a crash: everything is as it was.
    let (code, told) = dlq(running, &["redrive", &id]).await;
    assert_eq!((code, &told[0]["outcome"]), (0, &json!("already-closed")), "{told}");
    let (code, told) = dlq(running, &["discard", &id, "--reason", "late", "--yes"]).await;
    assert_eq!((code, &told[0]["outcome"]), (1, &json!("closed-otherwise")), "{told}");
    checks::holds(&running.ledger().await, "accounts", &account, 250).await.unwrap();

    // Another letter of the same record, which is decided now. The stream still remembers the id
    // of its message.
    let mut results = broker::results(&jetstream).await;
    let used = new_key();
    broker::publish(&jetstream, "transaction.deposit", &used, command.as_str()).await;
    broker::result_of(&mut results, &record).await;
    let used = [("Passbook-Message-Id", used.as_str())];
    keep(&jetstream, COMMANDS, "transaction.deposit", &command, &used).await;
    let (code, told) = dlq(running, &["redrive", "--record", &record]).await;
    let detail = told[0]["detail"].as_str().unwrap();
    assert_eq!(code, 0, "{told}");
    assert!(detail.contains("already decided SUCCESS; only its outcome is told again"), "{detail}");
    assert_eq!(broker::result_of(&mut results, &record).await["balanceAfter"], "250");
    checks::holds(&running.ledger().await, "accounts", &account, 250).await.unwrap();
}

#[tokio::test]
async fn a_harmful_or_invalid_replay_is_refused_and_the_others_continue() {
    let running = Stack::start("refused-letters").await;
    let client = Client::teller(&running);
    let account = client.open_account("KRW").await;
    let settled = client.deposit(&account, "100").await;
    let jetstream = broker::connect(&running).await;
    let result = json!({
        "recordId": settled.text("recordId"), "transactionId": settled.body["transactionId"],
        "accountId": account, "type": "DEPOSIT", "amount": "100", "currency": "KRW",
        "status": "SUCCESS", "reason": null, "balanceAfter": "100", "accountSeq": 1,
        "processedAt": "2026-01-02T03:04:05Z",
    });
    let mut forged = result.clone();
    forged["balanceAfter"] = json!("1000000");
    let (pending, _) = unsent_deposit(&running, &account).await;
    let mut untold = result.clone();
    untold["recordId"] = json!(pending);
    untold["amount"] = json!("250");
    let (unasked, unknown) = (new_key(), new_key());
    let cut: &[_] = &[("Passbook-Truncated-From", "2000000")];
    let subjects = ["transaction.deposit", "transaction.result.deposit"];
    for (place, subject, body, more, reason) in [
        (COMMANDS, subjects[0], command(&unasked, &account, "7"), &[][..], "nobody asked for"),
        (COMMANDS, subjects[0], command(&pending, &account, "251"), &[], "nobody asked for"),
        (COMMANDS, subjects[0], command(&unknown, &account, "7"), cut, "cut from 2000000 bytes"),
        (COMMANDS, subjects[0], "no JSON".to_owned(), &[], "come back as a dead letter"),
        (COMMANDS, "transaction.nowhere", "odd".to_owned(), &[], "the broker did not take it"),
        (RESULTS, subjects[1], forged.to_string(), &[], "already SUCCESS and the result contra"),
        (RESULTS, subjects[1], untold.to_string(), &[], "which the ledger did not decide"),
    ] {
        let id = keep(&jetstream, place, subject, &body, more).await;
        let (code, told) = dlq(&running, &["redrive", &id]).await;
        assert_eq!((code, &told[0]["outcome"]), (1, &json!("refused")), "{told}");
        assert!(told[0]["detail"].as_str().unwrap().contains(reason), "{reason}: {told}");
    }
    assert_eq!(dlq(&running, &["ls"]).await.1.as_array().unwrap().len(), 7);
    assert_eq!(dlq(&running, &["ls", "--closed"]).await, (0, json!([])));
    // Of all, only this one would be processed.
    let good = keep(&jetstream, RESULTS, subjects[1], &result.to_string(), &[]).await;
    let (code, told) = dlq(&running, &["redrive", "--all"]).await;
    let told = told.as_array().unwrap();
    let done: Vec<_> = told.iter().filter(|it| it["outcome"] == "redriven").collect();
    assert_eq!((code, told.len(), done.len()), (1, 8, 1), "{told:#?}");
    assert_eq!(done[0]["id"].to_string(), good);
    assert_eq!(client.account(&account).await.text("balance"), "100");
    checks::assert_verified(&running).await;

    // Who insists, gets it: and `verify` tells.
    let (code, told) = dlq(&running, &["redrive", "--record", &unasked, "--force"]).await;
    assert_eq!((code, &told[0]["outcome"]), (0, &json!("redriven")), "{told}");
    eventually("it has moved money", Duration::from_secs(10), || async {
        checks::holds(&running.ledger().await, "accounts", &account, 107).await.ok()
    })
    .await;
    assert_eq!(checks::verify(&running).await.0, 1);
}

#[tokio::test]
async fn a_discarded_dead_letter_is_kept_with_author_time_and_reason() {
    let running = Stack::shared().await;
    let jetstream = broker::connect(running).await;
    let record = new_key();
    let body = command(&record, &new_key(), "1");
    let id = keep(&jetstream, COMMANDS, "transaction.deposit", &body, &[]).await;
    let is_open = || async { dlq(running, &["ls", "--record", &record]).await.0 == 1 };

    let (code, _, stderr) = dlq_text(running, &["discard", &id, "--reason", "a forgery"]).await;
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("--yes"), "{stderr}");
    let (code, _, stderr) = dlq_text(running, &["discard", &id, "--yes"]).await;
    assert_eq!(code, 2, "without a reason: {stderr}");
    let (code, _, stderr) = dlq_text(running, &["discard", "--reason", "a forgery", "--yes"]).await;
    assert_eq!(code, 2, "without a letter: {stderr}");
    let (code, told) = dlq(running, &["discard", &id, "--dry-run"]).await;
    assert_eq!((code, &told[0]["outcome"]), (0, &json!("would-discard")), "{told}");
    assert!(is_open().await);

    let reason = "a forgery,\nsays \u{1b}[31mthe bank";
    let discard = ["discard", &id, "9999999", "--reason", reason, "--by", "jun", "--yes"];
    let (code, told) = dlq(running, &discard).await;
    assert_eq!(told[0]["outcome"], "discarded", "{told}");
    assert_eq!((code, &told[1]["outcome"]), (1, &json!("not-found")), "{told}");
    assert!(!is_open().await);
    let (code, shown) = dlq(running, &["show", &id]).await;
    assert_eq!((code, &shown["body"]), (0, &json!(body)));
    assert_eq!(shown["closed"]["action"], "discarded", "{shown}");
    assert_eq!(shown["closed"]["by"], "jun", "{shown}");
    assert_eq!(shown["closed"]["because"], "a forgery, says  [31mthe bank", "{shown}");
    let (code, told) =
        dlq(running, &discard[..2].iter().chain(&discard[3..]).copied().collect::<Vec<_>>()).await;
    assert_eq!((code, &told[0]["outcome"]), (0, &json!("already-closed")), "{told}");
}

#[tokio::test]
async fn discarding_at_a_terminal_asks_for_confirmation() {
    let running = Stack::shared().await;
    let jetstream = broker::connect(running).await;
    let record = new_key();
    let body = command(&record, &new_key(), "1");
    keep(&jetstream, COMMANDS, "transaction.deposit", &body, &[]).await;
    let dir = running.dir.to_str().unwrap().to_owned();
    for (answer, code, open) in [("n\n", 2, 1), ("\n", 2, 1), ("y\n", 0, 0)] {
        let terminal = openpty(None, None).unwrap();
        let mut mode = termios::tcgetattr(&terminal.slave).unwrap();
        termios::cfmakeraw(&mut mode);
        mode.local_flags |= termios::LocalFlags::ICANON;
        termios::tcsetattr(&terminal.slave, termios::SetArg::TCSANOW, &mode).unwrap();
        nix::unistd::write(&terminal.master, answer.as_bytes()).unwrap();
        let mut command = tokio::process::Command::new(stack::passbook());
        command.args(["dlq", "discard", "--record", &record, "--reason", "asked", "--dir", &dir]);
        let output = command.stdin(terminal.slave).output();
        let output = tokio::time::timeout(Duration::from_secs(20), output).await.unwrap().unwrap();
        let asked = String::from_utf8(output.stderr).unwrap();
        assert!(asked.contains("Discard 1 dead letter for good? [y/N]"), "{asked}");
        assert_eq!(output.status.code(), Some(code), "{asked}");
        assert_eq!(dlq(running, &["ls", "--record", &record]).await.0, open, "{answer:?}");
    }
}

#[tokio::test]
async fn of_two_concurrent_closings_of_a_dead_letter_one_wins_and_the_other_is_reported() {
    let running = Stack::shared().await;
    let jetstream = broker::connect(running).await;
    for _ in 0..5 {
        let client = Client::teller(running);
        let account = client.open_account("KRW").await;
        let (record, command) = unsent_deposit(running, &account).await;
        let id = keep(&jetstream, COMMANDS, "transaction.deposit", &command, &[]).await;
        let redrive: &[&str] = &["redrive", &id, "--by", "mina"];
        let discard: &[&str] = &["discard", &id, "--reason", "both", "--by", "jun", "--yes"];
        let told = join_all([redrive, discard, redrive, discard].map(|it| dlq(running, it))).await;
        let (_, closed) = dlq(running, &["ls", "--closed", "--record", &record]).await;
        assert_eq!(closed.as_array().unwrap().len(), 1, "{told:#?}\n{closed:#}");
        let winner = closed[0]["closed"]["action"].as_str().unwrap();
        for (told, action) in told.iter().zip(["redriven", "discarded", "redriven", "discarded"]) {
            let (code, told) = told;
            assert_eq!(*code, i32::from(action != winner), "{winner}: {told:#?}");
        }
        assert_eq!(dlq(running, &["ls", "--record", &record]).await, (0, json!([])));
        let status = match winner {
            "redriven" => client.settled(&record).await,
            _ => client.record(&record).await,
        };
        let wanted = if winner == "redriven" { "SUCCESS" } else { "PENDING" };
        assert_eq!(status.text("status"), wanted);
        // Given up or not: its record is settled in the end.
        sqlx::query("UPDATE transaction_records SET redrive_at = NULL WHERE id = $1")
            .bind(Uuid::parse_str(&record).unwrap())
            .execute(&running.accounts().await)
            .await
            .unwrap();
        client.settled(&record).await;
        checks::holds(&running.ledger().await, "accounts", &account, 250).await.unwrap();
    }
}

#[tokio::test]
async fn an_interrupted_replay_is_finished_by_the_next_one() {
    let running = Stack::shared().await;
    let client = Client::teller(running);
    let account = client.open_account("KRW").await;
    let jetstream = broker::connect(running).await;
    let (record, command) = unsent_deposit(running, &account).await;
    let id = keep(&jetstream, COMMANDS, "transaction.deposit", &command, &[]).await;
    // What one leaves that is killed right after it wrote down what it is about to do.
    let stream = jetstream.get_stream("DEAD_LETTER").await.unwrap();
    let letter = stream.get_raw_message(id.parse().unwrap()).await.unwrap();
    let nanos = letter.time.unix_timestamp_nanos();
    let mut headers = letter.headers.clone();
    headers.insert("Passbook-Closed", "redriven");
    headers.insert("Passbook-Closed-By", "mina");
    let subject = format!("dead-letter.closed.{COMMANDS}.{id}.{nanos}");
    let claim = jetstream.publish_with_headers(subject, headers, letter.payload.clone());
    claim.await.unwrap().await.unwrap();

    let (code, told) = dlq(running, &["discard", &id, "--reason", "no", "--yes"]).await;
    assert_eq!((code, &told[0]["outcome"]), (1, &json!("refused")), "{told}");
    let detail = told[0]["detail"].as_str().unwrap();
    assert!(detail.contains("redriven by mina") && detail.contains("dlq redrive"), "{detail}");
    for outcome in ["redriven", "already-closed"] {
        let (code, told) = dlq(running, &["redrive", &id]).await;
        assert_eq!((code, &told[0]["outcome"]), (0, &json!(outcome)), "{told}");
        assert_eq!(client.settled(&record).await.text("balanceAfter"), "250");
        let (_, closed) = dlq(running, &["ls", "--closed", "--record", &record]).await;
        assert_eq!(closed.as_array().unwrap().len(), 1, "{closed:#}");
        assert_eq!(closed[0]["closed"]["by"], "mina", "{closed:#}");
        assert_eq!(dlq(running, &["ls", "--record", &record]).await, (0, json!([])));
    }
    checks::holds(&running.ledger().await, "accounts", &account, 250).await.unwrap();
}
