//! A failover to an asynchronous standby without the last commits: of one database, while the
//! other one has lost nothing. Nobody stops the services meanwhile.

use std::{collections::BTreeSet, time::Duration};

use devstack::Fault;
use serde_json::Value;
use sqlx::{Connection, PgConnection};
use tests::{
    Client, Response, Stack, Standby, broker, client::new_key, eventually, invariants,
    process::run, stack::initialized_folder,
};
use uuid::Uuid;

use crate::reports::statement;

const LEDGER: &str = "transaction-service-0";
const ACCOUNTS: &str = "account-service-0";
const SOON: Duration = Duration::from_secs(30);

async fn single_replicas(name: &str, reports: &str) -> Stack {
    let arguments = ["--port", "0", "--faults", "--account-replicas", "1"];
    let more = ["--transaction-replicas", "1", "--report-replicas", reports];
    Stack::start_in(&initialized_folder(name).await, &[&arguments[..], &more].concat()).await
}

/// The database URLs as arguments of `passbook`.
fn urls(account: &str, ledger: &str) -> [String; 4] {
    ["--account-database-url", account, "--transaction-database-url", ledger].map(str::to_owned)
}

/// Runs a command of `passbook`. Gives its exit code, and its JSON report or, if there is none, its
/// stderr.
async fn passbook(command: &[&str], urls: &[String; 4]) -> (i32, Value) {
    let urls = urls.each_ref().map(String::as_str);
    let output = run(&[command, &["-o", "json"], &urls].concat()).await;
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), report)
}

/// Checks that `verify` reports exactly these records under *agreed*.
async fn assert_agreed(urls: &[String; 4], expected: &[&str]) -> Value {
    let (code, report) = passbook(&["verify", "--no-streams"], urls).await;
    assert_eq!(code, 1, "{report:#}");
    let findings = report["agreed"]["first"].as_array().unwrap();
    let named = |finding: &Value| {
        let finding = finding.as_str().unwrap();
        *expected
            .iter()
            .find(|record| finding.contains(**record))
            .unwrap_or_else(|| panic!("of another record: {finding}"))
    };
    let found: BTreeSet<_> = findings.iter().map(named).collect();
    assert_eq!(found, expected.iter().copied().collect(), "{report:#}");
    report
}

async fn found(client: &Client, record: &str) -> bool {
    client.record(record).await.status == 200
}

/// Whether the ledger has decided a record.
async fn is_decided(stack: &Stack, record: &str) -> bool {
    let decided = "SELECT EXISTS (SELECT FROM transactions WHERE record_id = $1)";
    let record = Uuid::parse_str(record).unwrap();
    sqlx::query_scalar(decided).bind(record).fetch_one(&stack.ledger().await).await.unwrap()
}

async fn is_applied(stack: &Stack, record: &str) {
    eventually("the ledger has decided the record", SOON, || async {
        is_decided(stack, record).await.then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_a_promoted_standby_lacks_are_gone_and_their_transactions_are_listed() {
    let stack = single_replicas("accounts-failover", "1").await;
    let (client, jetstream) = (Client::teller(&stack), broker::connect(&stack).await);
    let databases = stack.file().databases;
    let account = client.open_account("KRW").await;
    let known = client.deposit(&account, "100").await;
    stack.fault(LEDGER, Fault::Hold).await;
    let pending = client.movement("deposits", &account, "20", &new_key(), None).await;
    let standby = Standby::start(&stack).await;
    standby.has_caught_up(&stack).await;
    standby.receives_no_more(&stack).await;

    // All of this is committed, and no standby has it.
    stack.fault(LEDGER, Fault::Release).await;
    let before = client.settled(pending.text("recordId")).await;
    let key = new_key();
    let told = client.movement("deposits", &account, "3", &key, Some(20)).await;
    assert_eq!((told.status, told.text("status")), (200, "SUCCESS"), "{told:?}");
    let opened = client.open_account("KRW").await;
    let in_opened = client.deposit(&opened, "7").await;
    let report = client.report(&statement(&account, &["csv"]), 30).await;
    assert_eq!(report.text("state"), "SUCCEEDED", "{report:?}");
    stack.fault(LEDGER, Fault::Hold).await;
    let queued = client.movement("deposits", &account, "5", &new_key(), None).await;
    broker::stream_holds(&jetstream, "TRANSACTION", 1, SOON).await;
    stack.fault("account-service-0/nats", Fault::Refuse).await;
    let unsent = client.movement("deposits", &account, "11", &new_key(), None).await;
    assert_eq!(unsent.status, 202, "{unsent:?}");
    // The replica dies with its database, and its unsent command with it.
    stack.fault(ACCOUNTS, Fault::Kill).await;
    stack.fault("account-service-0/nats", Fault::Pass).await;

    standby.promote(&stack).await;
    for service in [ACCOUNTS, "report-service-0"] {
        stack.fault(&format!("{service}/postgres"), Fault::Redirect(standby.port())).await;
    }
    stack.fault(LEDGER, Fault::Release).await;
    let client = eventually("the promoted database serves", SOON, || async {
        let client = Client::teller(&stack);
        found(&client, known.text("recordId")).await.then_some(client)
    })
    .await;
    // PENDING in the standby: the ledger repeats its outcome.
    let after = client.settled(pending.text("recordId")).await;
    for field in ["status", "transactionId", "balanceAfter"] {
        assert_eq!(after.body[field], before.body[field], "{after:?}");
    }
    // Known to clients, and gone. The command in the stream is decided all the same.
    let [told_id, in_opened_id, queued_id, unsent_id] =
        [&told, &in_opened, &queued, &unsent].map(|record| record.text("recordId").to_owned());
    is_applied(&stack, &queued_id).await;
    for record in [&told_id, &in_opened_id, &queued_id, &unsent_id] {
        assert!(!found(&client, record).await, "{record}");
    }
    assert_eq!(client.account(&opened).await.status, 404);
    let gone = format!("/v1/reports/{}", report.text("reportId"));
    eventually("the report is gone", SOON, || async {
        (client.get(&gone).await.status == 404).then_some(())
    })
    .await;
    let letter = eventually("its result is dead-lettered", SOON, || async {
        broker::dead_letters(&jetstream).await.into_iter().next()
    })
    .await;
    assert!(format!("{letter:?}").contains(&queued_id), "{letter:?}");
    // Of the command that was in no stream, nothing is left.
    assert!(!is_decided(&stack, &unsent_id).await);
    invariants::holds(&stack.ledger().await, "accounts", &account, 128).await.unwrap();

    let urls = urls(&standby.url_of(&databases.account), &databases.transaction);
    let lost = [told_id.as_str(), &in_opened_id, &queued_id];
    let verified = assert_agreed(&urls, &lost).await;
    assert!(verified["projected"]["first"].to_string().contains(&opened), "{verified:#}");
    stack.fault(LEDGER, Fault::Hold).await;
    let (code, report) = passbook(&["repair"], &urls).await;
    assert_eq!((code, &report["booked"]), (1, &0.into()), "{report:#}");
    let listed = report["unrecorded"]["first"].as_array().unwrap();
    let listed: BTreeSet<_> = listed.iter().map(|row| row["recordId"].as_str().unwrap()).collect();
    assert_eq!(listed, lost.into_iter().collect(), "{report:#}");
    stack.fault(LEDGER, Fault::Release).await;

    // The key is forgotten: its request moves the money again.
    let again = client.movement("deposits", &account, "3", &key, Some(20)).await;
    assert_eq!((again.status, again.text("balanceAfter")), (200, "131"), "{again:?}");
}

/// Locks the row of a record, so that its result waits.
async fn hold_record(stack: &Stack, record: &Response) -> PgConnection {
    let mut holder = PgConnection::connect(&stack.file().databases.account).await.unwrap();
    sqlx::raw_sql("BEGIN").execute(&mut holder).await.unwrap();
    let record = Uuid::parse_str(record.text("recordId")).unwrap();
    let lock = sqlx::query("SELECT FROM transaction_records WHERE id = $1 FOR UPDATE");
    lock.bind(record).fetch_one(&mut holder).await.unwrap();
    holder
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_that_a_promoted_standby_lacks_are_booked_again_unless_their_account_moved_on()
{
    let stack = single_replicas("ledger-failover", "0").await;
    let client = Client::teller(&stack);
    let databases = stack.file().databases;
    let [quiet, busy] = [client.open_account("KRW").await, client.open_account("KRW").await];
    for account in [&quiet, &busy] {
        client.deposit(account, "100").await;
    }
    let standby = Standby::start(&stack).await;
    // PostgreSQL logs the numbers of transactions in advance, but not across a checkpoint: without
    // this one, the promoted standby would give the lost numbers again.
    client.deposit(&busy, "10").await;
    standby.has_caught_up(&stack).await;
    standby.receives_no_more(&stack).await;

    // Decided, told to clients, and known to no standby.
    let deposited = client.deposit(&quiet, "20").await;
    let withdrawn = client.withdraw(&busy, "30").await;
    assert_eq!((deposited.text("status"), withdrawn.text("status")), ("SUCCESS", "SUCCESS"));
    // The result of the third one arrives after the failover.
    stack.fault(LEDGER, Fault::Hold).await;
    let late = client.movement("deposits", &quiet, "4", &new_key(), None).await;
    let holder = hold_record(&stack, &late).await;
    stack.fault(LEDGER, Fault::Release).await;
    is_applied(&stack, late.text("recordId")).await;
    broker::stream_holds(&broker::connect(&stack).await, "TRANSACTION", 0, SOON).await;

    standby.promote(&stack).await;
    let redirect = Fault::Redirect(standby.port());
    stack.fault("transaction-service-0/postgres", redirect).await;
    holder.close().await.unwrap();
    let settled = client.settled(late.text("recordId")).await;
    assert_eq!(settled.text("balanceAfter"), "124", "{settled:?}");
    // The ledger goes on from the older balance: the 30 can be withdrawn again.
    let moved = eventually("a deposit settles", SOON, || async {
        let deposit = client.movement("deposits", &busy, "1", &new_key(), Some(5)).await;
        (deposit.status == 200).then_some(deposit)
    })
    .await;
    assert_eq!(moved.text("balanceAfter"), "111", "{moved:?}");
    // Its number in the account was told before, for the lost withdrawal.
    assert_eq!(client.account(&busy).await.text("balance"), "80");

    let urls = urls(&databases.account, &standby.url_of(&databases.transaction));
    let [deposited, withdrawn, late] = [&deposited, &withdrawn, &late];
    let lost = [deposited, withdrawn, late].map(|record| record.text("recordId"));
    let report = assert_agreed(&urls, &lost).await;
    for account in [&quiet, &busy] {
        assert!(report["projected"]["first"].to_string().contains(account), "{report:#}");
    }
    stack.fault(LEDGER, Fault::Hold).await;
    let (code, report) = passbook(&["repair", "--yes"], &urls).await;
    assert_eq!((code, &report["booked"]), (1, &2.into()), "{report:#}");
    assert_eq!(report["left"].as_array().unwrap().len(), 1, "{report:#}");
    assert_eq!(report["left"][0]["recordId"], withdrawn.body["recordId"], "{report:#}");
    let report = assert_agreed(&urls, &[withdrawn.text("recordId")]).await;
    assert_eq!(report["conserved"]["findings"], 0, "{report:#}");
    stack.fault(LEDGER, Fault::Release).await;
    let next = client.deposit(&quiet, "1").await;
    assert_eq!(next.text("balanceAfter"), "125", "{next:?}");
    // Only a person can correct the other one.
    let corrected = client.withdraw(&busy, "30").await;
    assert_eq!(corrected.text("balanceAfter"), "81", "{corrected:?}");
}
