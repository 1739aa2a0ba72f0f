//! Restoring a database from a backup with the commands of the runbook, and
//! `passbook repair`: the other database still has the lost movements.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use devstack::Fault;
use futures::future::join_all;
use serde_json::Value;
use tests::{
    Client, Response, Stack, broker,
    client::new_key,
    eventually, invariants,
    process::{run, run_with},
    stack::initialized_folder,
};
use tokio::process::Command;

use crate::{
    reports::statement,
    webhooks::{Endpoint, receiver::Receiver},
};

const LEDGERS: &str = "transaction-service-*";
const ACCOUNTS: &str = "account-service-*";
const WEBHOOKS: &str = "webhook-service-*";

/// Runs a program from the directory of the stack's PostgreSQL server.
async fn postgres_tool(stack: &Stack, program: &str, arguments: &[&str]) {
    let server = fs::read_link(format!("/proc/{}/exe", stack.pid("postgres"))).unwrap();
    let output = Command::new(server.with_file_name(program)).args(arguments).output().await;
    let output = output.unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

async fn back_up(stack: &Stack, url: &str) -> PathBuf {
    let (_, database) = url.rsplit_once('/').unwrap();
    let (database, _) = database.split_once('?').unwrap();
    let file = stack.dir.join(format!("{database}.backup"));
    let path = file.to_str().unwrap();
    postgres_tool(stack, "pg_dump", &["--format=custom", "--file", path, url]).await;
    file
}

async fn restore(stack: &Stack, url: &str, file: &Path) {
    let options = ["--clean", "--if-exists", "--single-transaction", "--exit-on-error"];
    let arguments = [&options[..], &["--dbname", url, file.to_str().unwrap()]].concat();
    postgres_tool(stack, "pg_restore", &arguments).await;
    let (_, database) = url.rsplit_once('/').unwrap();
    let (name, _) = database.split_once('?').unwrap();
    let ledger = name == "transaction";
    let variable = format!("PASSBOOK_{}_DATABASE_URL", name.to_uppercase());
    let output = run_with(&["migrate"], &[(&variable, url)]).await;
    assert!(output.status.success(), "{output:?}");
    if ledger {
        let query = "SELECT has_table_privilege('transaction_service', 'transactions', 'UPDATE')";
        let ledger = stack.ledger().await;
        let granted: bool = sqlx::query_scalar(query).fetch_one(&ledger).await.unwrap();
        assert!(!granted, "the service may update decided transactions");
    }
}

/// Runs `passbook repair`. Gives its exit code, and its JSON report or, if there is none, its
/// stderr.
async fn repair(stack: &Stack, arguments: &[&str]) -> (i32, Value) {
    let fixed = ["repair", "-o", "json", "--dir", stack.dir.to_str().unwrap()];
    let output = run(&[&fixed, arguments].concat()).await;
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), report)
}

/// Checks that `verify` reports exactly these records as settled and unknown to the ledger.
async fn assert_missing_in_ledger(stack: &Stack, records: &[&Response]) {
    let (code, report) = invariants::verify(stack).await;
    assert_eq!(code, 1, "{report:#}");
    let expected: BTreeSet<_> = records.iter().map(|record| record.text("recordId")).collect();
    let findings = report["agreed"]["first"].as_array().unwrap();
    let reported: BTreeSet<_> = findings
        .iter()
        .map(|finding| {
            let finding = finding.as_str().unwrap();
            let named = expected.iter().find(|record| finding.contains(**record));
            *named.unwrap_or_else(|| panic!("of another record: {finding}"))
        })
        .collect();
    assert_eq!(reported, expected, "{report:#}");
}

async fn assert_balance(client: &Client, account: &str, balance: &str) {
    assert_eq!(client.account(account).await.text("balance"), balance);
}

/// Starts the account-service on a restored database and waits until it shows `known`, a record in
/// the backup.
async fn release_accounts(stack: &Stack, known: &Response) -> Client {
    stack.fault(ACCOUNTS, Fault::Release).await;
    eventually("the account-service answers", Duration::from_secs(30), || async {
        let client = Client::teller(stack);
        let found = client.record(known.text("recordId")).await;
        (found.status == 200).then_some(client)
    })
    .await
}

#[tokio::test]
async fn a_restored_ledger_is_repaired_from_the_records() {
    let stack = Stack::start_with_faults("ledger-restored").await;
    let client = Client::teller(&stack);
    let ledger = stack.file().databases.transaction;
    let (one, other) = (client.open_account("KRW").await, client.open_account("USD").await);
    client.deposit(&one, "100").await;
    let backup = back_up(&stack, &ledger).await;
    let empty = client.open_account("KRW").await;
    let lost = [
        client.deposit(&one, "20").await,
        client.withdraw(&one, "1000").await,
        client.withdraw(&one, "30").await,
        client.deposit(&other, "7.25").await,
        client.withdraw(&empty, "1").await,
        client.withdraw(&other, "7.25").await,
    ];
    let statuses = ["SUCCESS", "FAILED", "SUCCESS", "SUCCESS", "FAILED", "SUCCESS"];
    assert_eq!(lost.each_ref().map(|record| record.text("status")), statuses);
    let (code, error) = repair(&stack, &["--yes"]).await;
    assert!(code == 2 && error.as_str().unwrap().contains("transaction-service"), "{error:#}");

    stack.fault(LEDGERS, Fault::Hold).await;
    let pending = client.movement("deposits", &one, "5", &new_key(), None).await;
    restore(&stack, &ledger, &backup).await;
    assert_missing_in_ledger(&stack, &lost.each_ref()).await;
    // Without `--yes`, the repair changes nothing.
    let query = "SELECT last_value FROM transactions_id_seq";
    let last_number = async || {
        let ledger = stack.ledger().await;
        sqlx::query_scalar::<_, i64>(query).fetch_one(&ledger).await.unwrap()
    };
    let before = last_number().await;
    let (code, report) = repair(&stack, &[]).await;
    assert_eq!(last_number().await, before);
    let counts = (&report["booked"], &report["accounts"]);
    assert_eq!((code, counts), (0, (&6.into(), &2.into())), "{report:#}");
    assert_missing_in_ledger(&stack, &lost.each_ref()).await;
    let (code, report) = repair(&stack, &["--yes"]).await;
    let result = (&report["booked"], &report["done"]);
    assert_eq!((code, result), (0, (&6.into(), &true.into())), "{report:#}");
    invariants::assert_verified(&stack).await;
    let number = async |record: &Response| stack.transaction_number(record.text("recordId")).await;
    let numbers = join_all(lost.iter().map(number)).await;
    let highest = numbers.into_iter().max().unwrap();
    assert_eq!(last_number().await, highest);
    assert_eq!(repair(&stack, &["--yes"]).await.1["booked"], 0);

    stack.fault(LEDGERS, Fault::Release).await;
    let settled = client.settled(pending.text("recordId")).await;
    assert_eq!(settled.text("balanceAfter"), "95", "{settled:?}");
    // The repaired ledger continues, with new numbers.
    assert!(number(&settled).await > highest, "{settled:?}");
    assert_eq!(client.deposit(&empty, "3").await.text("status"), "SUCCESS");
    assert_eq!(client.withdraw(&other, "0.01").await.text("status"), "FAILED");
    assert_balance(&client, &one, "95").await;
    assert_balance(&client, &other, "0.00").await;
    invariants::assert_verified(&stack).await;
}

#[tokio::test]
async fn records_contradicting_a_ledger_that_continued_are_listed_and_not_booked() {
    let stack = Stack::start_with_faults("ledger-continued").await;
    let client = Client::teller(&stack);
    let ledger = stack.file().databases.transaction;
    let (one, other) = (client.open_account("KRW").await, client.open_account("KRW").await);
    let third = client.open_account("KRW").await;
    client.deposit(&one, "100").await;
    client.deposit(&third, "10").await;
    let backup = back_up(&stack, &ledger).await;
    let lost = [
        client.deposit(&one, "20").await,
        client.deposit(&other, "7").await,
        client.withdraw(&one, "30").await,
        client.withdraw(&one, "1000").await,
        client.deposit(&third, "5").await,
    ];
    stack.fault(LEDGERS, Fault::Hold).await;
    restore(&stack, &ledger, &backup).await;
    // The first mistake: the ledger runs before its repair, and gives the first lost number again.
    stack.fault(LEDGERS, Fault::Release).await;
    let mistake = client.deposit(&client.open_account("KRW").await, "1").await;
    let number = async |record: &Response| stack.transaction_number(record.text("recordId")).await;
    let taken = number(&mistake).await;
    assert_eq!(taken, number(&lost[0]).await);
    stack.fault(LEDGERS, Fault::Hold).await;

    // The second mistake: somebody changes a balance by hand.
    let ledger = stack.ledger().await;
    let add = |amount: i32| {
        let change = format!(
            "UPDATE accounts SET balance = balance + {amount} WHERE account_id = '{third}'"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(change)).execute(&ledger)
    };
    add(1).await.unwrap();

    let (code, report) = repair(&stack, &["--yes"]).await;
    assert_eq!((code, &report["booked"]), (1, &2.into()), "{report:#}");
    let not_booked = report["left"].as_array().unwrap();
    // The first number is taken, the second follows a movement not booked, and the balance of the
    // third is 16 instead of 15.
    let taken = taken.to_string();
    let reasons: [(usize, &[&str]); 3] =
        [(0, &[&taken, "another record"]), (2, &["earlier"]), (4, &["16", "15"])];
    assert_eq!(not_booked.len(), reasons.len(), "{report:#}");
    for (found, (at, texts)) in not_booked.iter().zip(reasons) {
        assert_eq!(found["recordId"], lost[at].body["recordId"], "{report:#}");
        let why = found["why"].as_str().unwrap();
        assert!(texts.iter().all(|text| why.contains(text)), "{report:#}");
    }
    add(-1).await.unwrap();
    assert_missing_in_ledger(&stack, &[&lost[0], &lost[2], &lost[4]]).await;
    let (_, report) = invariants::verify(&stack).await;
    assert_eq!(report["conserved"]["findings"], 0, "{report:#}");
}

#[tokio::test]
async fn restored_records_are_settled_from_the_ledger() {
    let settings = ["PASSBOOK_WEBHOOK_ALLOWED_NETWORKS=127.0.0.1/32".to_owned()];
    let arguments = ["--port", "0", "--faults", "--webhook-replicas", "1"];
    let dir = initialized_folder("accounts-restored").await;
    let stack = Stack::start_under(&dir, &settings, &arguments).await;
    let client = Client::teller(&stack);
    let merchant = Client::merchant(&stack, &new_key());
    let receiver = Receiver::start().await;
    Endpoint::create(&merchant, &receiver).await;
    let known = merchant.open_account("KRW").await;
    receiver.received_all(&[known], Duration::from_secs(30)).await;
    let accounts = stack.file().databases.account;
    let account = client.open_account("KRW").await;
    client.deposit(&account, "100").await;
    stack.fault(LEDGERS, Fault::Hold).await;
    let pending = client.movement("deposits", &account, "20", &new_key(), None).await;
    let backup = back_up(&stack, &accounts).await;
    stack.fault(LEDGERS, Fault::Release).await;
    let before = client.settled(pending.text("recordId")).await;
    let lost = client.deposit(&account, "3").await;
    let forgotten = merchant.open_account("KRW").await;
    receiver.received_all(&[forgotten], Duration::from_secs(30)).await;

    stack.fault(ACCOUNTS, Fault::Hold).await;
    stack.fault(WEBHOOKS, Fault::Hold).await;
    restore(&stack, &accounts, &backup).await;
    // The outcome is the same, and no balance moves.
    let client = release_accounts(&stack, &pending).await;
    let after = client.settled(pending.text("recordId")).await;
    for field in ["status", "transactionId", "balanceAfter"] {
        assert_eq!(after.body[field], before.body[field], "{after:?}");
    }
    assert_eq!(client.record(lost.text("recordId")).await.status, 404);
    let (code, report) = invariants::verify(&stack).await;
    assert_eq!(code, 1, "{report:#}");
    let findings = report["agreed"]["first"].as_array().unwrap();
    assert_eq!(findings.len(), 1, "{report:#}");
    assert!(findings[0].as_str().unwrap().contains(lost.text("recordId")), "{report:#}");
    // The next movement corrects the projected balance.
    assert_eq!(client.deposit(&account, "4").await.text("balanceAfter"), "127");
    assert_balance(&client, &account, "127").await;
    // The restored endpoint goes on with the restored log.
    stack.fault(WEBHOOKS, Fault::Release).await;
    let later = merchant.open_account("KRW").await;
    receiver.received_all(&[later], Duration::from_secs(30)).await;
}

#[tokio::test]
async fn both_databases_restored_to_different_times_agree_after_repair() {
    let stack = Stack::start_with_faults("both-restored").await;
    let client = Client::teller(&stack);
    let databases = stack.file().databases;
    let account = client.open_account("KRW").await;
    client.deposit(&account, "100").await;
    let ledger_backup = back_up(&stack, &databases.transaction).await;
    let between = client.withdraw(&account, "30").await;
    stack.fault(LEDGERS, Fault::Hold).await;
    let pending = client.movement("deposits", &account, "20", &new_key(), None).await;
    let accounts_backup = back_up(&stack, &databases.account).await;
    stack.fault(LEDGERS, Fault::Release).await;
    client.settled(pending.text("recordId")).await;

    // Movements after both backups are lost, and must not be processed again.
    let settled = client.deposit(&account, "5").await;
    stack.fault(LEDGERS, Fault::Hold).await;
    let late = client.movement("deposits", &account, "7", &new_key(), None).await;
    stack.fault(ACCOUNTS, Fault::Hold).await;
    restore(&stack, &databases.transaction, &ledger_backup).await;
    restore(&stack, &databases.account, &accounts_backup).await;
    let jetstream = broker::connect(&stack).await;
    let sent = jetstream.publish("transaction.result.deposit", "{}".into()).await;
    sent.unwrap().await.unwrap();
    let (code, error) = repair(&stack, &["--yes"]).await;
    assert!(code == 2 && error.as_str().unwrap().contains("TRANSACTION_RESULT"), "{error:#}");
    for stream in ["TRANSACTION", "TRANSACTION_RESULT"] {
        jetstream.get_stream(stream).await.unwrap().purge().await.unwrap();
    }
    assert_missing_in_ledger(&stack, &[&between]).await;
    let (code, report) = repair(&stack, &["--yes"]).await;
    assert_eq!((code, &report["booked"]), (0, &1.into()), "{report:#}");
    invariants::assert_verified(&stack).await;

    stack.fault(LEDGERS, Fault::Release).await;
    let client = release_accounts(&stack, &pending).await;
    let outcome = client.settled(pending.text("recordId")).await;
    assert_eq!(outcome.text("balanceAfter"), "90", "{outcome:?}");
    for lost in [&settled, &late] {
        assert_eq!(client.record(lost.text("recordId")).await.status, 404);
    }
    assert_eq!(client.deposit(&account, "4").await.text("balanceAfter"), "94");
    invariants::assert_verified(&stack).await;
}

#[tokio::test]
async fn a_restored_report_database_makes_its_open_reports_again() {
    const SERVICE: &str = "report-service-*";
    let limit = Duration::from_secs(60);
    let arguments = ["--port", "0", "--faults", "--report-replicas", "1"];
    let dir = tests::stack::folder("reports-restored");
    let stack = Stack::start_in(&dir, &arguments).await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    client.deposit(&account, "100").await;
    let request = statement(&account, &["csv"]);
    let made = client.report(&request, 30).await;
    assert_eq!(made.text("state"), "SUCCEEDED", "{made:?}");
    // Without the broker, a request is accepted and no worker is woken.
    stack.fault("report-service-0/nats*", Fault::Refuse).await;
    let open = client.report(&request, 0).await;
    assert_eq!(open.text("state"), "QUEUED", "{open:?}");
    let reports = stack.file().databases.report;
    let backup = back_up(&stack, &reports).await;
    stack.fault("report-service-0/nats*", Fault::Pass).await;
    let first = client.report_ended(open.text("reportId"), limit).await;
    assert_eq!(first.text("state"), "SUCCEEDED", "{first:?}");
    let lost = client.report(&request, 30).await;

    stack.fault(SERVICE, Fault::Hold).await;
    restore(&stack, &reports, &backup).await;
    let jetstream = broker::connect(&stack).await;
    jetstream.get_stream("job").await.unwrap().purge().await.unwrap();
    stack.fault(SERVICE, Fault::Release).await;
    stack.replica_ready("report-service-0").await;
    let again = client.report_ended(open.text("reportId"), limit).await;
    let digest = |report: &Response| report.body["artifacts"][0]["sha256"].clone();
    assert_eq!((again.text("state"), digest(&again)), ("SUCCEEDED", digest(&first)));
    for report in [&made, &again] {
        let href = report.body["artifacts"][0]["href"].as_str().unwrap();
        assert_eq!(client.get(href).await.status, 200, "{href}");
    }
    let path = format!("/v1/reports/{}", lost.text("reportId"));
    assert_eq!(client.get(&path).await.problem(), "report-not-found");
    invariants::assert_verified(&stack).await;
}
