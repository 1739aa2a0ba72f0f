//! `passbook verify` finds violations of the invariants.

use std::time::Duration;

use async_nats::jetstream::Context;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use tests::{Client, Response, Stack, broker, client::new_key, eventually, invariants, process};

#[tokio::test]
async fn each_broken_invariant_is_found() {
    let stack = Stack::start("verify").await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    let other = client.open_account("KRW").await;
    client.deposit(&other, "5").await;
    client.deposit(&account, "100").await;
    client.withdraw(&account, "1000").await;
    client.deposit(&account, "20").await;
    // An account whose only movement was refused.
    let poor = client.open_account("KRW").await;
    client.withdraw(&poor, "1").await;
    let clean = invariants::assert_verified(&stack).await;
    assert_eq!(clean["agreed"]["compared"], Value::from(5), "{clean:#}");
    assert_eq!(clean["conserved"]["compared"], Value::from(3), "{clean:#}");
    let counts = &clean["counts"];
    assert_eq!((&counts["accepted"], &counts["settled"]), (&json!(5), &json!(5)), "{clean:#}");
    assert_eq!((&counts["ledgered"], &clean["pending"]), (&json!(5), &json!(0)), "{clean:#}");
    assert_eq!(clean["streams"]["checked"], true, "{clean:#}");
    assert_eq!(clean["dropped"]["compared"], json!(5), "one result a record: {clean:#}");

    let recovered = verified_while_a_stream_can_not_be_read(&stack).await;
    assert_eq!(recovered["dropped"]["compared"], json!(5), "counted once: {recovered:#}");

    let accounts = stack.accounts().await;
    let ledger = stack.ledger().await;
    let fill_in = |statement: &str| {
        statement.replace('@', &format!("'{account}'")).replace('#', &format!("'{poor}'"))
    };
    for (invariant, database, damage, repair) in [
        (
            "conserved",
            &ledger,
            "UPDATE accounts SET balance = 121 WHERE account_id = @",
            "UPDATE accounts SET balance = 120 WHERE account_id = @",
        ),
        (
            "conserved",
            &ledger,
            "UPDATE accounts SET account_seq = 3 WHERE account_id = @",
            "UPDATE accounts SET account_seq = 2 WHERE account_id = @",
        ),
        (
            "conserved",
            &ledger,
            "UPDATE transactions SET account_seq = 3 WHERE account_id = @ AND account_seq = 2",
            "UPDATE transactions SET account_seq = 2 WHERE account_id = @ AND account_seq = 3",
        ),
        (
            "conserved",
            &ledger,
            "UPDATE transactions SET balance_after = 99 WHERE account_id = @ AND account_seq = 1",
            "UPDATE transactions SET balance_after = 100 WHERE account_id = @ AND account_seq = 1",
        ),
        (
            "conserved",
            &ledger,
            "CREATE TABLE gone AS SELECT * FROM accounts WHERE account_id = #;
             DELETE FROM accounts WHERE account_id = #",
            "INSERT INTO accounts SELECT * FROM gone; DROP TABLE gone",
        ),
        (
            "projected",
            &accounts,
            "CREATE TABLE gone AS SELECT * FROM accounts WHERE account_id = #;
             DELETE FROM accounts WHERE account_id = #",
            "INSERT INTO accounts SELECT * FROM gone; DROP TABLE gone",
        ),
        (
            "agreed",
            &ledger,
            "UPDATE transactions SET amount = 1001 WHERE account_id = @ AND status = 'FAILED'",
            "UPDATE transactions SET amount = 1000 WHERE account_id = @ AND status = 'FAILED'",
        ),
        (
            "agreed",
            &ledger,
            "CREATE TABLE gone AS SELECT * FROM transactions WHERE account_id = @ AND status = 'FAILED';
             DELETE FROM transactions WHERE account_id = @ AND status = 'FAILED'",
            "INSERT INTO transactions OVERRIDING SYSTEM VALUE SELECT * FROM gone; DROP TABLE gone",
        ),
        (
            "agreed",
            &accounts,
            "CREATE TABLE gone AS SELECT * FROM transaction_records WHERE account_id = @ AND amount = 20;
             DELETE FROM transaction_records WHERE account_id = @ AND amount = 20",
            "INSERT INTO transaction_records SELECT * FROM gone; DROP TABLE gone",
        ),
        (
            "agreed",
            &accounts,
            "UPDATE transaction_records SET balance_after = 99 WHERE account_id = @ AND amount = 100",
            "UPDATE transaction_records SET balance_after = 100 WHERE account_id = @ AND amount = 100",
        ),
        (
            "agreed",
            &accounts,
            "UPDATE transaction_records SET status = 'PENDING', amount = 21, transaction_id = NULL,
             balance_after = NULL, announced = NULL, redrive_at = now() + interval '1 hour'
             WHERE account_id = @ AND amount = 20;
             DELETE FROM events WHERE account_id = @ AND sequence = 4;
             UPDATE accounts SET event_seq = 3 WHERE account_id = @",
            "UPDATE transaction_records SET amount = 20, redrive_at = NULL
             WHERE account_id = @ AND amount = 21",
        ),
        (
            "settled",
            &accounts,
            "UPDATE transaction_records SET status = 'PENDING', transaction_id = NULL,
             reason = NULL, announced = NULL, redrive_at = now() + interval '1 hour',
             created_at = created_at - interval '16 minutes' WHERE account_id = #;
             DELETE FROM events WHERE account_id = # AND sequence = 2;
             UPDATE accounts SET event_seq = 1 WHERE account_id = #",
            "UPDATE transaction_records SET redrive_at = NULL,
             created_at = created_at + interval '16 minutes' WHERE account_id = #",
        ),
        (
            "projected",
            &accounts,
            "UPDATE accounts SET balance = 119 WHERE account_id = @",
            "UPDATE accounts SET balance = 120 WHERE account_id = @",
        ),
        (
            "projected",
            &accounts,
            "UPDATE accounts SET account_seq = 9 WHERE account_id = @",
            "UPDATE accounts SET account_seq = 2 WHERE account_id = @",
        ),
        (
            "once",
            &ledger,
            "ALTER TABLE transactions DROP CONSTRAINT transactions_record_id_key;
             CREATE TABLE gone AS SELECT * FROM accounts WHERE account_id = @;
             INSERT INTO transactions (record_id, account_id, type, amount, currency, status, reason)
             SELECT record_id, account_id, type, amount, currency, status, reason
             FROM transactions WHERE account_id = @ AND status = 'FAILED'",
            "DELETE FROM transactions WHERE account_id = @ AND status = 'FAILED'
             AND id > (SELECT min(id) FROM transactions WHERE account_id = @ AND status = 'FAILED');
             DELETE FROM accounts WHERE account_id = @;
             INSERT INTO accounts SELECT * FROM gone; DROP TABLE gone",
        ),
        (
            "pinned",
            &ledger,
            "ALTER TABLE transactions DROP CONSTRAINT transactions_outcome_check;
             UPDATE transactions SET balance_after = 0 WHERE account_id = @ AND status = 'FAILED'",
            "UPDATE transactions SET balance_after = NULL WHERE account_id = @ AND status = 'FAILED'",
        ),
    ] {
        sqlx::raw_sql(AssertSqlSafe(fill_in(damage))).execute(database).await.unwrap();
        let (code, report) = invariants::verify(&stack).await;
        assert_eq!(code, 1, "{damage}: {report:#}");
        assert!(report[invariant]["findings"].as_u64().unwrap() > 0, "{damage}: {report:#}");
        let first = report[invariant]["first"][0].as_str().unwrap();
        assert!(!first.is_empty(), "{damage}: {report:#}");
        sqlx::raw_sql(AssertSqlSafe(fill_in(repair))).execute(database).await.unwrap();
        invariants::assert_verified(&stack).await;
    }
}

/// A forged result of this record: the ledger never decided it.
fn forged(record: &Response, balance: &str) -> String {
    json!({
        "recordId": record.text("recordId"), "transactionId": 1,
        "accountId": record.text("accountId"), "type": "DEPOSIT",
        "amount": record.text("amount"), "currency": "KRW", "status": "SUCCESS",
        "reason": null, "balanceAfter": balance, "accountSeq": 1,
        "processedAt": "2026-01-02T03:04:05Z",
    })
    .to_string()
}

/// Waits for the dead letter with this text in its body. Gives its id.
async fn dead_letter_with(jetstream: &Context, text: &str) -> u64 {
    eventually("the message is dead-lettered", Duration::from_secs(15), || async {
        broker::newest_with(jetstream, "DEAD_LETTER", text).await
    })
    .await
}

#[tokio::test]
async fn a_result_neither_settled_nor_dead_lettered_is_found() {
    let stack = Stack::start("dropped-results").await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    let settled = client.deposit(&account, "100").await;
    let jetstream = broker::connect(&stack).await;
    let (known_id, unknown_id) = (settled.text("recordId"), new_key());
    let unknown = forged(&settled, "100").replace(known_id, &unknown_id);
    let bodies = [forged(&settled, "1000000"), unknown, "no result at all".to_owned()];
    let (mut results, mut dead_letters) = (Vec::new(), Vec::new());
    for body in &bodies {
        let (subject, body) = ("transaction.result.deposit", body.as_str());
        results.push(broker::publish(&jetstream, subject, &new_key(), body).await);
        dead_letters.push(dead_letter_with(&jetstream, body).await);
    }
    // Each result has its dead letter, open or closed: none is dropped.
    let clean = invariants::assert_verified(&stack).await;
    assert_eq!(clean["dropped"]["compared"], 4, "{clean:#}");
    let open = &clean["streams"]["deadLettersOpen"];
    assert_eq!(open["account-result-consumer"], 3, "{clean:#}");
    let dir = stack.dir.to_str().unwrap();
    let id = dead_letters[0].to_string();
    let discard = ["dlq", "discard", &id, "--reason", "forged", "--yes", "--dir", dir];
    assert_eq!(process::run(&discard).await.status.code(), Some(0));
    invariants::assert_verified(&stack).await;

    let stream = jetstream.get_stream("DEAD_LETTER").await.unwrap();
    // A finding names the result by its sequence and, if it can be read, by its record.
    let unreadable = format!("result {}", results[2]);
    for (deleted, finding) in [(1, unknown_id.as_str()), (2, unreadable.as_str())] {
        stream.delete_message(dead_letters[deleted]).await.unwrap();
        let (code, report) = invariants::verify(&stack).await;
        assert_eq!((code, &report["dropped"]["findings"]), (1, &json!(deleted)), "{report:#}");
        let findings = report["dropped"]["first"].to_string();
        assert!(findings.contains(finding), "{findings}");
    }
    stream.purge().await.unwrap();
    let (code, report) = invariants::verify(&stack).await;
    assert_eq!((code, &report["dropped"]["findings"]), (1, &json!(3)), "{report:#}");
    let findings = report["dropped"]["first"].to_string();
    assert!(findings.contains(known_id), "{findings}");

    // Without the streams, or without a NATS URL, the report marks the streams as not checked.
    let databases = stack.file().databases;
    let urls = ["--account-database-url", &databases.account, "--transaction-database-url"];
    for arguments in
        [&["--no-streams", "--dir", dir][..], &[&urls[..], &[&databases.transaction]].concat()]
    {
        let output = process::run(&[&["verify", "-o", "json"], arguments].concat()).await;
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{report:#}");
        assert_eq!(report["streams"]["checked"], false, "{report:#}");
        assert!(report["streams"]["why"].is_string(), "{report:#}");
    }
}

/// Verifies while the results can't be read for some seconds, as in a cluster without a leader.
async fn verified_while_a_stream_can_not_be_read(stack: &Stack) -> Value {
    let jetstream = broker::connect(stack).await;
    let mut results = broker::stream(&jetstream, "TRANSACTION_RESULT").await.config;
    results.allow_direct = false;
    jetstream.update_stream(&results).await.unwrap();
    let readable_again = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        results.allow_direct = true;
        jetstream.update_stream(&results).await.unwrap();
    };
    tokio::join!(invariants::assert_verified(stack), readable_again).0
}

#[tokio::test]
async fn a_command_that_will_never_be_delivered_again_is_found() {
    let stack = Stack::start("dropped-command").await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    let settled = client.deposit(&account, "100").await;
    let jetstream = broker::connect(&stack).await;
    let paused = stack.pause_workers();
    broker::no_open_pulls(&jetstream, "TRANSACTION", "deposit-consumer").await;
    let command = broker::command_of(&settled).to_string();
    let subject = "transaction.deposit";
    let first = broker::publish(&jetstream, subject, &new_key(), command.clone()).await;
    broker::publish(&jetstream, subject, &new_key(), command).await;
    // A command in flight is no finding, no matter how often it was delivered.
    let clean = invariants::assert_verified(&stack).await;
    assert_eq!(clean["streams"]["commandMessagesInFlight"], 2, "{clean:#}");
    // Three deliveries of the first command, which is its maximum, and one of the second.
    let consumer = broker::consumer(&jetstream, "TRANSACTION", "deposit-consumer").await;
    for _ in 0..4 {
        broker::fetch_and_nak(&consumer).await;
        // The server does not tell when the delay of a nak is over. A fetch before that would get
        // the second command.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // As if the server's advisory had been lost.
    broker::stream_holds(&jetstream, "USED_UP", 1, Duration::from_secs(10)).await;
    jetstream.get_stream("USED_UP").await.unwrap().purge().await.unwrap();
    drop(paused);
    // The second command is processed.
    broker::stream_holds(&jetstream, "TRANSACTION", 1, Duration::from_secs(45)).await;
    let (code, report) = invariants::verify(&stack).await;
    assert_eq!((code, &report["dropped"]["findings"]), (1, &json!(1)), "{report:#}");
    let finding = report["dropped"]["first"][0].as_str().unwrap();
    assert!(finding.contains(&format!("message {first}")), "{finding}");
}

#[tokio::test]
async fn streams_are_read_to_the_end_in_many_batches() {
    // A message for each result, so that the stream is long.
    let settings = ["PASSBOOK_MESSAGE_PARTS=1".to_owned()];
    let dir = tests::stack::initialized_folder("verify-many").await;
    let stack = Stack::start_under(&dir, &settings, &["--port", "0"]).await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    let deposit = |_| {
        json!({ "accountId": account, "type": "DEPOSIT", "amount": "1",
                "idempotencyKey": new_key() })
    };
    let items: Vec<_> = (0..1000).map(deposit).collect();
    let response = client.post("/v1/batches", &[], &json!({ "items": items })).await;
    assert_eq!(response.status, 200, "{response:?}");
    let jetstream = broker::connect(&stack).await;
    for _ in 0..120 {
        broker::publish(&jetstream, "transaction.deposit", &new_key(), "garbage").await;
    }
    let list = ["dlq", "ls", "-o", "json", "--limit", "1000", "--dir", stack.dir.to_str().unwrap()];
    eventually("all messages are settled or dead-lettered", Duration::from_secs(30), || async {
        let output = process::run(&list).await;
        let dead_letters: Value = serde_json::from_slice(&output.stdout).unwrap();
        let results = broker::stream(&jetstream, "TRANSACTION_RESULT").await.state.messages;
        (dead_letters.as_array().unwrap().len() == 120 && results == 1000).then_some(())
    })
    .await;
    client.deposit(&account, "1").await;
    // Gaps at the beginning and in the middle of the stream.
    let results = jetstream.get_stream("TRANSACTION_RESULT").await.unwrap();
    for sequence in [1, 2, 700] {
        results.delete_message(sequence).await.unwrap();
    }
    let report = eventually("no result is in flight", Duration::from_secs(30), || async {
        let report = invariants::assert_verified(&stack).await;
        (report["streams"]["resultMessagesInFlight"] == 0).then_some(report)
    })
    .await;
    assert_eq!(report["dropped"]["compared"], 998, "{report:#}");
    assert_eq!(report["streams"]["deadLettersOpen"]["deposit-consumer"], 120, "{report:#}");
}

#[tokio::test]
async fn a_run_that_judges_something_else_replaces_no_pushed_result() {
    let stack = Stack::start_servers("verify-by-hand").await;
    // No gateway listens there: a run that pushes fails.
    let gateway = [("PASSBOOK_PUSHGATEWAY_URL", "http://127.0.0.1:1")];
    let fixed = ["verify", "-o", "json", "--dir", stack.dir.to_str().unwrap()];
    let scheduled: &[&str] = &[];
    for (arguments, code) in [
        (scheduled, 2),
        (&["--pending-limit", "900s"][..], 2),
        (&["--pending-limit", "2m"][..], 0),
        (&["--no-streams"][..], 0),
    ] {
        let output = process::run_with(&[&fixed[..], arguments].concat(), &gateway).await;
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["notPushed"].is_string(), code == 0, "{report:#}");
    }
}

#[tokio::test]
async fn reports_that_ran_side_by_side_are_found_for_a_day() {
    let stack = Stack::start_servers("verify-alone").await;
    let reports = stack.reports().await;
    for (id, from, to) in [(new_key(), 60, 50), (new_key(), 55, 45)] {
        let ended = format!(
            "INSERT INTO reports (id, kind, requested_by, idempotency_key, request_hash, parameters,
                 formats, state, attempt, ended_at)
             VALUES ('{id}', 'activity', 'auditor', '{id}', '', '{{}}', '{{csv}}', 'CANCELLED', 1,
                 now());
             INSERT INTO report_attempts (report_id, number, worker, started_at, ended_at, outcome)
             VALUES ('{id}', 1, 'worker', now() - interval '{from} minutes',
                 now() - interval '{to} minutes', 'CANCELLED')"
        );
        sqlx::raw_sql(AssertSqlSafe(ended)).execute(&reports).await.unwrap();
    }
    let (code, report) = invariants::verify(&stack).await;
    assert_eq!((code, &report["alone"]["findings"]), (1, &json!(1)), "{report:#}");
    // Two days later, and with an end that a wrong clock wrote.
    for (change, compared) in [
        ("started_at = started_at - interval '2 days', ended_at = ended_at - interval '2 days'", 0),
        ("started_at = started_at + interval '2 days', ended_at = now() + interval '1 hour'", 0),
        ("ended_at = now()", 2),
    ] {
        let change = format!("UPDATE report_attempts SET {change}");
        sqlx::raw_sql(AssertSqlSafe(change)).execute(&reports).await.unwrap();
        let (code, report) = invariants::verify(&stack).await;
        assert_eq!(report["alone"]["compared"], json!(compared), "{report:#}");
        assert_eq!(code, i32::from(compared > 0), "{report:#}");
    }
}
