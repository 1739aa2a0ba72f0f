//! Databases that answer and take no writes, or whose commits do not end.

use std::{fs, time::Duration};

use devstack::Fault;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tests::{
    Client, Stack, client::new_key, eventually, invariants, process, stack::initialized_folder,
};

const SOON: Duration = Duration::from_secs(20);
const SERVICES: [&str; 4] =
    ["account-service-0", "transaction-service-0", "report-service-0", "webhook-service-0"];
const DATABASES: [&str; 3] = ["account", "transaction", "report"];
const MONEY: [&str; 6] = ["--port", "0", "--account-replicas", "1", "--transaction-replicas", "1"];

/// A superuser's connection outside the databases of the services.
async fn superuser(stack: &Stack) -> PgConnection {
    let url = stack.file().databases.account.replace("/account?", "/postgres?");
    eventually("PostgreSQL accepts a connection", SOON, || async {
        PgConnection::connect(&url).await.ok()
    })
    .await
}

async fn execute(connection: &mut PgConnection, sql: String) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.unwrap();
}

/// Waits until `/readyz` names a reason with this text, or passes if the text is empty.
async fn readiness(stack: &Stack, name: &str, text: &str) {
    let what = format!("{name} reports {text:?}");
    eventually(&what, SOON, || async {
        let file = stack.file();
        let process = file.processes.into_iter().find(|process| process.name == name)?;
        let url = format!("{}/readyz", process.admin?);
        let response = reqwest::get(url).await.ok()?;
        let ready = response.status().is_success();
        let report: Value = response.json().await.ok()?;
        let mut conditions = report["conditions"].as_array()?.iter();
        let postgres = conditions.find(|condition| condition["name"] == "postgres")?;
        let reason = postgres["reason"].as_str().unwrap_or_default();
        let as_expected = if text.is_empty() { ready } else { !ready && reason.contains(text) };
        as_expected.then_some(())
    })
    .await;
}

/// Deposits until a deposit settles.
async fn deposited(client: &Client, account: &str) {
    eventually("a deposit settles", SOON, || async {
        let response = client.movement("deposits", account, "1", &new_key(), Some(10)).await;
        (response.status == 200).then_some(())
    })
    .await;
}

/// Asks for a report until it is accepted.
async fn report_accepted(client: &Client) {
    let body = json!({ "kind": "reconciliation", "formats": ["json"] });
    eventually("a report is accepted", SOON, || async {
        let response = client.report(&body, 0).await;
        (response.status == 202).then_some(())
    })
    .await;
}

/// Waits until doctor has a finding of this check.
async fn doctor_finds(stack: &Stack, check: &str) {
    let dir = ["doctor", "-o", "json", "--dir", stack.dir.to_str().unwrap()];
    eventually(&format!("doctor has the finding {check}"), SOON, || async {
        let output = process::run(&dir).await;
        let checks: Value = serde_json::from_slice(&output.stdout).unwrap();
        let mut checks = checks.as_array().unwrap().iter();
        checks.any(|found| found["check"] == check && found["state"] == "finding").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_is_ready_only_while_its_database_takes_durable_writes() {
    let more = ["--faults", "--webhook-replicas", "1"];
    let stack = Stack::start_reports_with("not-writable", 1, &[], &more).await;
    let client = Client::teller_at(&stack, "account-service-0");
    let reports = Client::teller_at(&stack, "report-service-0");
    let account = client.open_account("KRW").await;
    deposited(&client, &account).await;
    read_only_sessions(&stack, &client, &reports, &account).await;
    standby(&stack, &client, &account).await;
    settings_that_differ(&stack).await;
    settings_of_readers_that_differ(&stack, &client, &account).await;
    deposited(&client, &account).await;
    invariants::assert_verified(&stack).await;
}

/// The sessions stay read-only after the database takes writes again, as those of a proxy to a
/// former primary.
async fn read_only_sessions(stack: &Stack, client: &Client, reports: &Client, account: &str) {
    let mut superuser = superuser(stack).await;
    for name in DATABASES {
        let read_only = format!("ALTER DATABASE {name} SET default_transaction_read_only = on");
        execute(&mut superuser, read_only).await;
    }
    stack.fault("*/postgres", Fault::Cut).await;
    for service in SERVICES {
        readiness(stack, service, "read-only").await;
    }
    let key = new_key();
    let rejected = client.movement("deposits", account, "7", &key, None).await;
    assert_eq!((rejected.status, rejected.problem()), (503, "unavailable"), "{rejected:?}");
    let body = json!({ "kind": "reconciliation", "formats": ["json"] });
    let rejected = reports.report(&body, 0).await;
    assert_eq!((rejected.status, rejected.problem()), (503, "unavailable"), "{rejected:?}");
    for name in DATABASES {
        let reset = format!("ALTER DATABASE {name} RESET default_transaction_read_only");
        execute(&mut superuser, reset).await;
    }
    for service in SERVICES {
        readiness(stack, service, "").await;
    }
    deposited(client, account).await;
    report_accepted(reports).await;
    let stored = "SELECT count(*) FROM transaction_records WHERE idempotency_key = $1";
    let stored: i64 =
        sqlx::query_scalar(stored).bind(&key).fetch_one(&stack.accounts().await).await.unwrap();
    assert_eq!(stored, 0);
}

/// The server starts as a standby, and is promoted.
async fn standby(stack: &Stack, client: &Client, account: &str) {
    let mut connection = superuser(stack).await;
    let data: String =
        sqlx::query_scalar("SHOW data_directory").fetch_one(&mut connection).await.unwrap();
    stack.fault("postgres", Fault::Hold).await;
    fs::write(format!("{data}/standby.signal"), "").unwrap();
    stack.fault("postgres", Fault::Release).await;
    for service in SERVICES {
        readiness(stack, service, "standby").await;
    }
    doctor_finds(stack, "writable").await;
    let mut connection = superuser(stack).await;
    execute(&mut connection, "SELECT pg_promote()".to_owned()).await;
    for service in SERVICES {
        readiness(stack, service, "").await;
    }
    deposited(client, account).await;
}

/// As with a proxy that drops the settings of a session.
async fn settings_that_differ(stack: &Stack) {
    let mut superuser = superuser(stack).await;
    let isolation = "default_transaction_isolation";
    execute(&mut superuser, format!("ALTER DATABASE account SET {isolation} = serializable")).await;
    stack.fault("account-service-0/postgres", Fault::Cut).await;
    readiness(stack, "account-service-0", "transaction_isolation = serializable").await;
    execute(&mut superuser, format!("ALTER DATABASE account RESET {isolation}")).await;
    readiness(stack, "account-service-0", "").await;
}

/// The same for the sessions with which the account-service reads the ledger. No money depends on
/// them, so the service stays ready.
async fn settings_of_readers_that_differ(stack: &Stack, client: &Client, account: &str) {
    let mut superuser = superuser(stack).await;
    let set = "ALTER ROLE ledger_reader SET default_transaction_isolation";
    execute(&mut superuser, format!("{set} = serializable")).await;
    let path = format!("/v1/accounts/{account}?consistency=ledger");
    let rejected = client.get(&path).await;
    assert_eq!((rejected.status, rejected.problem()), (503, "ledger-unavailable"), "{rejected:?}");
    let log = fs::read_to_string(stack.dir.join("logs/account-service-0.log")).unwrap();
    let refusal = log.lines().find(|line| line.contains("the ledger can't be read")).unwrap();
    assert!(refusal.contains("transaction_isolation = serializable"), "{refusal}");
    readiness(stack, "account-service-0", "").await;
    execute(&mut superuser, format!("{set} = DEFAULT")).await;
    let read = client.get(&path).await;
    assert_eq!(read.status, 200, "{read:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_without_its_synchronous_standby_is_unknown_to_the_client_and_not_lost() {
    let stack = Stack::start_in(&initialized_folder("absent-standby").await, &MONEY).await;
    let client = Client::teller_at(&stack, "account-service-0");
    let account = client.open_account("KRW").await;
    deposited(&client, &account).await;
    let mut superuser = superuser(&stack).await;
    execute(&mut superuser, "ALTER SYSTEM SET synchronous_standby_names = 'absent'".to_owned())
        .await;
    execute(&mut superuser, "SELECT pg_reload_conf()".to_owned()).await;
    let unknown = async {
        eventually("a commit waits for the standby", Duration::from_secs(40), || async {
            let key = new_key();
            let response = client.movement("deposits", &account, "10", &key, None).await;
            if response.status == 202 {
                return None;
            }
            assert_eq!((response.status, response.problem()), (503, "outcome-unknown"));
            Some(key)
        })
        .await
    };
    let (key, ()) = tokio::join!(unknown, doctor_finds(&stack, "commits"));
    execute(&mut superuser, "ALTER SYSTEM RESET synchronous_standby_names".to_owned()).await;
    execute(&mut superuser, "SELECT pg_reload_conf()".to_owned()).await;
    let again = eventually("the key is answered", SOON, || async {
        let again = client.movement("deposits", &account, "10", &key, Some(10)).await;
        (again.status == 200).then_some(again)
    })
    .await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"), "{again:?}");
    invariants::assert_verified(&stack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_smart_shutdown_of_postgresql_ends_although_the_services_run_on() {
    let lifetime = ["PASSBOOK_DATABASE_LIFETIME=3s".to_owned()];
    let stack =
        Stack::start_under(&initialized_folder("smart-shutdown").await, &lifetime, &MONEY).await;
    let client = Client::teller_at(&stack, "account-service-0");
    let account = client.open_account("KRW").await;
    deposited(&client, &account).await;
    let before = stack.pid("postgres");
    process::signal(before, Signal::SIGTERM);
    // Open connections still serve, and the first outcome may be any.
    let key = new_key();
    client.movement("deposits", &account, "7", &key, None).await;
    stack.restarted("postgres", before, SOON).await;
    let settled = eventually("the key is answered", SOON, || async {
        let again = client.movement("deposits", &account, "7", &key, Some(10)).await;
        (again.status == 200).then_some(again)
    })
    .await;
    assert_eq!(settled.text("status"), "SUCCESS");
    invariants::assert_verified(&stack).await;
}
