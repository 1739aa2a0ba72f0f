//! One database comes back from a backup, by the commands of RUNBOOK.md, and
//! the other one knows what it has lost.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use devstack::Fault;
use serde_json::Value;
use tests::{
    Answer, Client, Stack, broker, checks,
    client::new_key,
    stack::{folder, run, run_with},
};
use tokio::process::Command;

const LEDGERS: &str = "transaction-service-*";
const ACCOUNTS: &str = "account-service-*";

/// Runs a program that lies beside the stack's PostgreSQL.
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
    let to = file.to_str().unwrap();
    postgres_tool(stack, "pg_dump", &["--format=custom", "--file", to, url]).await;
    file
}

async fn restore(stack: &Stack, url: &str, file: &Path) {
    let how = ["--clean", "--if-exists", "--single-transaction", "--exit-on-error"];
    let arguments = [&how[..], &["--dbname", url, file.to_str().unwrap()]].concat();
    postgres_tool(stack, "pg_restore", &arguments).await;
    let (_, database) = url.rsplit_once('/').unwrap();
    let ledger = database.starts_with("transaction");
    let variable = if ledger { "TRANSACTION" } else { "ACCOUNT" };
    let variable = format!("PASSBOOK_{variable}_DATABASE_URL");
    let output = run_with(&["migrate"], &[(&variable, url)]).await;
    assert!(output.status.success(), "{output:?}");
    if ledger {
        let may = "SELECT has_table_privilege('transaction_service', 'transactions', 'UPDATE')";
        let may: bool = sqlx::query_scalar(may).fetch_one(&stack.ledger().await).await.unwrap();
        assert!(!may, "a decided transaction could be changed");
    }
}

async fn repair(stack: &Stack, more: &[&str]) -> (i32, Value) {
    let arguments = ["repair", "-o", "json", "--dir", stack.dir.to_str().unwrap()];
    let output = run(&[&arguments, more].concat()).await;
    let told = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), told)
}

/// That exactly these records are told as settled and unknown to the ledger.
async fn misses(stack: &Stack, records: &[&Answer]) {
    let (code, report) = checks::verify(stack).await;
    assert_eq!(code, 1, "{report:#}");
    let told = report["agreed"]["first"].as_array().unwrap();
    let told: BTreeSet<_> =
        told.iter().map(|it| it.as_str().unwrap().split(' ').nth(1).unwrap()).collect();
    let lost: BTreeSet<_> = records.iter().map(|it| it.text("recordId")).collect();
    assert_eq!(told, lost, "{report:#}");
}

async fn shows(client: &Client, account: &str, balance: &str) {
    assert_eq!(client.account(account).await.text("balance"), balance);
}

/// Starts the account-service on a restored database, which knows this record.
async fn release_accounts(stack: &Stack, known: &Answer) -> Client {
    stack.fault(ACCOUNTS, Fault::Release).await;
    tests::eventually("an account-service is there", Duration::from_secs(30), || async {
        let client = Client::teller(stack);
        let found = client.record(known.text("recordId")).await;
        (found.status == 200).then_some(client)
    })
    .await
}

#[tokio::test]
async fn a_restored_ledger_is_repaired_from_the_records() {
    let stack = Stack::start_in(&folder("ledger-restored"), &["--port", "0", "--faults"]).await;
    let client = Client::teller(&stack);
    let ledger = stack.file().databases.transaction;
    let (one, other) = (client.open_account("KRW").await, client.open_account("USD").await);
    client.deposit(&one, "100").await;
    let backup = back_up(&stack, &ledger).await;
    let poor = client.open_account("KRW").await;
    let lost = [
        client.deposit(&one, "20").await,
        client.withdraw(&one, "1000").await,
        client.withdraw(&one, "30").await,
        client.deposit(&other, "7.25").await,
        client.withdraw(&poor, "1").await,
        client.withdraw(&other, "7.25").await,
    ];
    let statuses = ["SUCCESS", "FAILED", "SUCCESS", "SUCCESS", "FAILED", "SUCCESS"];
    assert_eq!(lost.each_ref().map(|it| it.text("status")), statuses);
    let (code, told) = repair(&stack, &["--yes"]).await;
    assert!(code == 2 && told.as_str().unwrap().contains("stop it first"), "{told:#}");

    stack.fault(LEDGERS, Fault::Hold).await;
    let waits = client.movement("deposits", &one, "5", &new_key(), None).await;
    restore(&stack, &ledger, &backup).await;
    misses(&stack, &lost.each_ref()).await;
    // Looked at, and nothing changed.
    let given = "SELECT last_value FROM transactions_id_seq";
    let given = async || {
        let ledger = stack.ledger().await;
        sqlx::query_scalar::<_, i64>(given).fetch_one(&ledger).await.unwrap()
    };
    let before = given().await;
    let (code, told) = repair(&stack, &[]).await;
    assert_eq!(given().await, before);
    assert_eq!((code, &told["booked"], &told["accounts"]), (0, &6.into(), &2.into()), "{told:#}");
    misses(&stack, &lost.each_ref()).await;
    let (code, told) = repair(&stack, &["--yes"]).await;
    assert_eq!((code, &told["booked"], &told["done"]), (0, &6.into(), &true.into()), "{told:#}");
    checks::assert_verified(&stack).await;
    let number = |record: &Answer| record.body["transactionId"].as_i64().unwrap();
    let highest = lost.iter().map(number).max().unwrap();
    assert_eq!(given().await, highest);
    assert_eq!(repair(&stack, &["--yes"]).await.1["booked"], 0);

    stack.fault(LEDGERS, Fault::Release).await;
    let waited = client.settled(waits.text("recordId")).await;
    assert_eq!(waited.text("balanceAfter"), "95", "{waited:?}");
    // New numbers, and a ledger that goes on where it was.
    assert!(number(&waited) > highest, "{waited:?}");
    assert_eq!(client.deposit(&poor, "3").await.text("status"), "SUCCESS");
    assert_eq!(client.withdraw(&other, "0.01").await.text("status"), "FAILED");
    shows(&client, &one, "95").await;
    shows(&client, &other, "0.00").await;
    checks::assert_verified(&stack).await;
}

#[tokio::test]
async fn records_contradicting_a_ledger_that_continued_are_listed_and_not_booked() {
    let stack = Stack::start_in(&folder("ledger-went-on"), &["--port", "0", "--faults"]).await;
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
    // The mistake: it is started before it is repaired, and takes the first lost number again.
    stack.fault(LEDGERS, Fault::Release).await;
    let mistake = client.deposit(&client.open_account("KRW").await, "1").await;
    assert_eq!(mistake.body["transactionId"], lost[0].body["transactionId"]);
    stack.fault(LEDGERS, Fault::Hold).await;

    // Another one: somebody has paid something in by hand.
    let ledger = stack.ledger().await;
    let add = |amount: i32| {
        let change = format!(
            "UPDATE accounts SET balance = balance + {amount} WHERE account_id = '{third}'"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(change)).execute(&ledger)
    };
    add(1).await.unwrap();

    let (code, told) = repair(&stack, &["--yes"]).await;
    assert_eq!((code, &told["booked"]), (1, &2.into()), "{told:#}");
    let left = told["left"].as_array().unwrap();
    let left: Vec<_> = left.iter().map(|it| it["recordId"].as_str().unwrap()).collect();
    assert_eq!(left, [0, 2, 4].map(|at: usize| lost[at].text("recordId")), "{told:#}");
    assert!(told["left"][0]["why"].as_str().unwrap().contains("to another record"), "{told:#}");
    assert!(told["left"][1]["why"].as_str().unwrap().contains("earlier movement"), "{told:#}");
    let unknown = "comes to 16 with it, and the record says 15: a movement in between is unknown";
    assert!(told["left"][2]["why"].as_str().unwrap().contains(unknown), "{told:#}");
    add(-1).await.unwrap();
    misses(&stack, &[&lost[0], &lost[2], &lost[4]]).await;
    let (_, report) = checks::verify(&stack).await;
    assert_eq!(report["conserved"]["findings"], 0, "{report:#}");
}

#[tokio::test]
async fn restored_records_are_settled_from_the_ledger() {
    let stack = Stack::start_in(&folder("accounts-restored"), &["--port", "0", "--faults"]).await;
    let client = Client::teller(&stack);
    let accounts = stack.file().databases.account;
    let account = client.open_account("KRW").await;
    client.deposit(&account, "100").await;
    stack.fault(LEDGERS, Fault::Hold).await;
    let pending = client.movement("deposits", &account, "20", &new_key(), None).await;
    let backup = back_up(&stack, &accounts).await;
    stack.fault(LEDGERS, Fault::Release).await;
    let before = client.settled(pending.text("recordId")).await;
    let lost = client.deposit(&account, "3").await;

    stack.fault(ACCOUNTS, Fault::Hold).await;
    restore(&stack, &accounts, &backup).await;
    // The same outcome, and nothing moves.
    let client = release_accounts(&stack, &pending).await;
    let after = client.settled(pending.text("recordId")).await;
    for field in ["status", "transactionId", "balanceAfter"] {
        assert_eq!(after.body[field], before.body[field], "{after:?}");
    }
    assert_eq!(client.record(lost.text("recordId")).await.status, 404);
    let (code, report) = checks::verify(&stack).await;
    assert_eq!(code, 1, "{report:#}");
    let told = report["agreed"]["first"].as_array().unwrap();
    let wanted = format!("transaction of {}, which is no record", lost.text("recordId"));
    assert_eq!(told, &[Value::from(wanted)], "{report:#}");
    // The next movement brings the shown balance up to the ledger's.
    assert_eq!(client.deposit(&account, "4").await.text("balanceAfter"), "127");
    shows(&client, &account, "127").await;
}

#[tokio::test]
async fn both_databases_restored_to_different_times_agree_after_repair() {
    let stack = Stack::start_in(&folder("both-restored"), &["--port", "0", "--faults"]).await;
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

    // After both moments: forgotten, and not acted upon again.
    let settled = client.deposit(&account, "5").await;
    stack.fault(LEDGERS, Fault::Hold).await;
    let waits = client.movement("deposits", &account, "7", &new_key(), None).await;
    stack.fault(ACCOUNTS, Fault::Hold).await;
    restore(&stack, &databases.transaction, &ledger_backup).await;
    restore(&stack, &databases.account, &accounts_backup).await;
    let jetstream = broker::connect(&stack).await;
    let forgotten = jetstream.publish("transaction.result.deposit", "{}".into()).await;
    forgotten.unwrap().await.unwrap();
    let (code, told) = repair(&stack, &["--yes"]).await;
    assert!(code == 2 && told.as_str().unwrap().contains("still to settle"), "{told:#}");
    for stream in ["TRANSACTION", "TRANSACTION_RESULT"] {
        jetstream.get_stream(stream).await.unwrap().purge().await.unwrap();
    }
    misses(&stack, &[&between]).await;
    let (code, told) = repair(&stack, &["--yes"]).await;
    assert_eq!((code, &told["booked"]), (0, &1.into()), "{told:#}");
    checks::assert_verified(&stack).await;

    stack.fault(LEDGERS, Fault::Release).await;
    let client = release_accounts(&stack, &pending).await;
    let outcome = client.settled(pending.text("recordId")).await;
    assert_eq!(outcome.text("balanceAfter"), "90", "{outcome:?}");
    for forgotten in [&settled, &waits] {
        assert_eq!(client.record(forgotten.text("recordId")).await.status, 404);
    }
    assert_eq!(client.deposit(&account, "4").await.text("balanceAfter"), "94");
    checks::assert_verified(&stack).await;
}
