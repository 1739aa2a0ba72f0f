//! Replays: what they settle, and which ones are refused.

use std::time::Duration;

use futures::{FutureExt, StreamExt};
use serde_json::json;
use tests::{
    Client, Stack,
    broker::{self, deposit_command},
    client::new_key,
    eventually, invariants,
};

use super::{COMMANDS, RESULTS, dlq, dlq_text, publish_dead_letter, unsent_deposit};

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
