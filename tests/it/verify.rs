//! `passbook verify` finds what is broken on purpose.

use std::time::Duration;

use async_nats::jetstream::{
    AckKind, Context,
    consumer::{Consumer, pull},
};
use futures::StreamExt;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use tests::{
    Client, Stack, broker, checks,
    client::new_key,
    eventually,
    stack::{self, signal},
};

#[tokio::test]
async fn each_broken_invariant_is_found() {
    let stack = Stack::start("verify").await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    let other = client.open_account("KRW").await;
    client.deposit(&other, "5").await;
    client.deposit(&account, "100").await;
    client.deposit(&account, "20").await;
    client.withdraw(&account, "1000").await;
    // Nothing ever moved here: only its rows tell that it was there.
    let poor = client.open_account("KRW").await;
    client.withdraw(&poor, "1").await;
    let clean = checks::assert_verified(&stack).await;
    assert_eq!(clean["agreed"]["compared"], Value::from(5), "{clean:#}");
    assert_eq!(clean["conserved"]["compared"], Value::from(3), "{clean:#}");
    let counts = &clean["counts"];
    assert_eq!((&counts["accepted"], &counts["settled"]), (&json!(5), &json!(5)), "{clean:#}");
    assert_eq!((&counts["ledgered"], &clean["pending"]), (&json!(5), &json!(0)), "{clean:#}");
    assert_eq!(clean["streams"]["checked"], true, "{clean:#}");
    assert_eq!(clean["dropped"]["compared"], json!(5), "a result each: {clean:#}");

    let accounts = stack.accounts().await;
    let ledger = stack.ledger().await;
    let of = |statement: &str| {
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
             balance_after = NULL, redrive_at = now() + interval '1 hour'
             WHERE account_id = @ AND amount = 20",
            "UPDATE transaction_records SET amount = 20, redrive_at = NULL
             WHERE account_id = @ AND amount = 21",
        ),
        (
            "settled",
            &accounts,
            "UPDATE transaction_records SET status = 'PENDING', transaction_id = NULL,
             balance_after = NULL, redrive_at = now() + interval '1 hour',
             created_at = created_at - interval '16 minutes'
             WHERE account_id = @ AND amount = 100",
            "UPDATE transaction_records SET redrive_at = NULL,
             created_at = created_at + interval '16 minutes'
             WHERE account_id = @ AND amount = 100",
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
             INSERT INTO transactions (record_id, account_id, type, amount, currency, status, reason)
             SELECT record_id, account_id, type, amount, currency, status, reason
             FROM transactions WHERE account_id = @ AND status = 'FAILED'",
            "DELETE FROM transactions WHERE account_id = @ AND status = 'FAILED'
             AND id > (SELECT min(id) FROM transactions WHERE account_id = @ AND status = 'FAILED')",
        ),
        (
            "pinned",
            &ledger,
            "ALTER TABLE transactions DROP CONSTRAINT transactions_outcome_check;
             UPDATE transactions SET balance_after = 0 WHERE account_id = @ AND status = 'FAILED'",
            "UPDATE transactions SET balance_after = NULL WHERE account_id = @ AND status = 'FAILED'",
        ),
    ] {
        sqlx::raw_sql(AssertSqlSafe(of(damage))).execute(database).await.unwrap();
        let (code, report) = checks::verify(&stack).await;
        assert_eq!(code, 1, "{damage}: {report:#}");
        assert!(report[invariant]["findings"].as_u64().unwrap() > 0, "{damage}: {report:#}");
        let first = report[invariant]["first"][0].as_str().unwrap();
        assert!(!first.is_empty(), "{damage}: {report:#}");
        sqlx::raw_sql(AssertSqlSafe(of(repair))).execute(database).await.unwrap();
        checks::assert_verified(&stack).await;
    }
}

/// A result that the ledger never decided.
fn forged(client_record: &tests::Answer, balance: &str) -> String {
    json!({
        "recordId": client_record.text("recordId"), "transactionId": 1,
        "accountId": client_record.text("accountId"), "type": "DEPOSIT",
        "amount": client_record.text("amount"), "currency": "KRW", "status": "SUCCESS",
        "reason": null, "balanceAfter": balance, "accountSeq": 1,
        "processedAt": "2026-01-02T03:04:05Z",
    })
    .to_string()
}

/// The id of the dead letter with this body.
async fn letter_of(jetstream: &Context, body: &str) -> u64 {
    eventually("it is a dead letter", Duration::from_secs(15), || async {
        let stream = jetstream.get_stream("DEAD_LETTER").await.unwrap();
        for id in 1..=stream.cached_info().state.last_sequence {
            let letter = stream.get_raw_message(id).await;
            if letter.is_ok_and(|it| it.payload == body.as_bytes()) {
                return Some(id);
            }
        }
        None
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
    let unknown = forged(&settled, "100").replace(settled.text("recordId"), &new_key());
    let bodies = [forged(&settled, "1000000"), unknown, "no result at all".to_owned()];
    let mut letters = Vec::new();
    for body in &bodies {
        let body = body.as_str();
        broker::publish(&jetstream, "transaction.result.deposit", &new_key(), body).await;
        letters.push(letter_of(&jetstream, body).await);
    }
    // Each has its dead letter, open or closed: nothing is dropped.
    let clean = checks::assert_verified(&stack).await;
    assert_eq!(clean["dropped"]["compared"], 4, "{clean:#}");
    let open = &clean["streams"]["deadLettersOpen"];
    assert_eq!(open["account-result-consumer"], 3, "{clean:#}");
    let dir = stack.dir.to_str().unwrap();
    let id = letters[0].to_string();
    let discard = ["dlq", "discard", &id, "--reason", "forged", "--yes", "--dir", dir];
    assert_eq!(stack::run(&discard).await.status.code(), Some(0));
    checks::assert_verified(&stack).await;

    let dead = jetstream.get_stream("DEAD_LETTER").await.unwrap();
    for (left, what) in [(1, "does not exist"), (2, "can't be read")] {
        dead.delete_message(letters[left]).await.unwrap();
        let (code, report) = checks::verify(&stack).await;
        assert_eq!((code, &report["dropped"]["findings"]), (1, &json!(left)), "{report:#}");
        let told = report["dropped"]["first"].to_string();
        assert!(told.contains(what), "{told}");
    }
    dead.purge().await.unwrap();
    let (code, report) = checks::verify(&stack).await;
    assert_eq!((code, &report["dropped"]["findings"]), (1, &json!(3)), "{report:#}");
    let told = report["dropped"]["first"].to_string();
    assert!(told.contains("what the ledger did not decide"), "{told}");

    // Who leaves the streams out, or gives no NATS URL, is told so.
    let databases = stack.file().databases;
    let urls = ["--account-database-url", &databases.account, "--transaction-database-url"];
    for arguments in
        [&["--no-streams", "--dir", dir][..], &[&urls[..], &[&databases.transaction]].concat()]
    {
        let output = stack::run(&[&["verify", "-o", "json"], arguments].concat()).await;
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{report:#}");
        assert_eq!(report["streams"]["checked"], false, "{report:#}");
        assert!(report["streams"]["why"].is_string(), "{report:#}");
    }
}

#[tokio::test]
async fn a_command_that_will_never_be_delivered_again_is_found() {
    let stack = Stack::start("dropped-command").await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    let settled = client.deposit(&account, "100").await;
    let jetstream = broker::connect(&stack).await;
    let workers = ["transaction-service-0", "transaction-service-1"].map(|it| stack.pid(it));
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
    for _ in 0..2 {
        let command = command.clone();
        broker::publish(&jetstream, "transaction.deposit", &new_key(), command).await;
    }
    // In flight is no finding, however often it was delivered.
    let clean = checks::assert_verified(&stack).await;
    assert_eq!(clean["streams"]["commandsInFlight"], 2, "{clean:#}");
    // The first is delivered as often as is allowed; a fourth delivery is of the second.
    let consumer: Consumer<pull::Config> = found().await.unwrap();
    for _ in 0..4 {
        let fetch = consumer.fetch().max_messages(1).expires(Duration::from_secs(5));
        let message = fetch.messages().await.unwrap().next().await.unwrap().unwrap();
        let again = AckKind::Nak(Some(Duration::from_millis(10)));
        message.ack_with(again).await.unwrap();
        eventually("it can come again", Duration::from_secs(5), || async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Some(())
        })
        .await;
    }
    // As if the server's word about it had been lost.
    let used_up = jetstream.get_stream("USED_UP").await.unwrap();
    eventually("the server has given it up", Duration::from_secs(10), || async {
        (used_up.get_info().await.unwrap().state.messages == 1).then_some(())
    })
    .await;
    used_up.purge().await.unwrap();
    for pid in workers {
        signal(pid, Signal::SIGCONT);
    }
    eventually("the second is done with", Duration::from_secs(45), || async {
        (broker::stream(&jetstream, "TRANSACTION").await.state.messages == 1).then_some(())
    })
    .await;
    let (code, report) = checks::verify(&stack).await;
    assert_eq!((code, &report["dropped"]["findings"]), (1, &json!(1)), "{report:#}");
    let told = report["dropped"]["first"][0].as_str().unwrap();
    assert!(told.contains("will never be delivered again"), "{told}");
}

#[tokio::test]
async fn streams_are_read_to_the_end_in_many_batches() {
    let stack = Stack::start("verify-many").await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    let deposit = |_| {
        json!({ "accountId": account, "type": "DEPOSIT", "amount": "1",
                "idempotencyKey": new_key() })
    };
    let items: Vec<_> = (0..1000).map(deposit).collect();
    let answer = client.post("/v1/batches", &[], &json!({ "items": items })).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let jetstream = broker::connect(&stack).await;
    for _ in 0..120 {
        broker::publish(&jetstream, "transaction.deposit", &new_key(), "garbage").await;
    }
    let list = ["dlq", "ls", "-o", "json", "--limit", "1000", "--dir", stack.dir.to_str().unwrap()];
    eventually("all is settled or a dead letter", Duration::from_secs(30), || async {
        let output = stack::run(&list).await;
        let letters: Value = serde_json::from_slice(&output.stdout).unwrap();
        let results = broker::stream(&jetstream, "TRANSACTION_RESULT").await.state.messages;
        (letters.as_array().unwrap().len() == 120 && results == 1000).then_some(())
    })
    .await;
    client.deposit(&account, "1").await;
    // Gaps, at the beginning and in the middle.
    let results = jetstream.get_stream("TRANSACTION_RESULT").await.unwrap();
    for gone in [1, 2, 700] {
        results.delete_message(gone).await.unwrap();
    }
    let report = eventually("nothing is in flight", Duration::from_secs(30), || async {
        let report = checks::assert_verified(&stack).await;
        (report["streams"]["resultsInFlight"] == 0).then_some(report)
    })
    .await;
    assert_eq!(report["dropped"]["compared"], 998, "{report:#}");
    assert_eq!(report["streams"]["deadLettersOpen"]["deposit-consumer"], 120, "{report:#}");
}
