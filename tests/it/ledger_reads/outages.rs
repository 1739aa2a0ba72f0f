//! No path of money depends on the ledger's database, and no other read.

use std::{net::TcpListener, time::Duration};

use runtime::postgres::PgPool;
use sqlx::AssertSqlSafe;
use tests::{Client, Stack, eventually};

use super::query;
use crate::reports::own_replica::OwnReplica;

const LEDGER: &str = "consistency=ledger";
const PAST: &str = "at=2026-01-01T00:00:00Z";

async fn alter_reader(ledger: &PgPool, to: &str) {
    let statement = format!(
        "ALTER ROLE ledger_reader {to};
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'ledger_reader'"
    );
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(ledger).await.unwrap();
}

/// Deposits settle, default reads work, and reads of the ledger fail with this problem.
async fn only_reads_of_the_ledger_fail(
    client: &Client,
    account: &str,
    (status, problem): (u16, &str),
) {
    let path = format!("/v1/accounts/{account}");
    let balances = format!("{path}/balances");
    for (path, parameters) in [(&path, LEDGER), (&balances, LEDGER), (&balances, PAST)] {
        let begun = std::time::Instant::now();
        let answer = query(client, path, parameters).await;
        assert_eq!((answer.status, answer.problem()), (status, problem), "{answer:?}");
        assert_eq!(answer.header("retry-after").is_some(), status == 503, "{answer:?}");
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    }
    let record = client.deposit(account, "1").await;
    assert_eq!((record.status, record.text("status")), (200, "SUCCESS"), "{record:?}");
    for path in [&path, &balances] {
        assert_eq!(client.get(path).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_ledgers_database_only_its_reads_fail() {
    let stack = Stack::start("ledger-reads-outage").await;
    let (client, ledger) = (Client::teller(&stack), stack.ledger().await);
    let account = client.open_account("KRW").await;
    client.deposit(&account, "1").await;
    let path = format!("/v1/accounts/{account}");
    assert_eq!(query(&client, &path, LEDGER).await.status, 200);
    alter_reader(&ledger, "NOLOGIN").await;
    only_reads_of_the_ledger_fail(&client, &account, (503, "ledger-unavailable")).await;
    stack.replica_ready("account-service-0").await;
    stack.replica_ready("account-service-1").await;
    // A settled record never changes: it needs no ledger.
    let record = client.deposit(&account, "1").await;
    let record = format!("/v1/records/{}", record.text("recordId"));
    assert_eq!(query(&client, &record, LEDGER).await.status, 200);
    alter_reader(&ledger, "LOGIN").await;
    eventually("the ledger is read again", Duration::from_secs(10), || async {
        (query(&client, &path, LEDGER).await.status == 200).then_some(())
    })
    .await;

    // A host that takes connections and is silent.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://ledger_reader:x@{}/transaction", silent.local_addr().unwrap());
    let more = [("PASSBOOK_LEDGER_URL", url.as_str())];
    let replica = OwnReplica::start_service(&stack, "account-service", "silent.log", &more);
    ready(&replica).await;
    let own = replica.client(&stack);
    only_reads_of_the_ledger_fail(&own, &account, (503, "ledger-unavailable")).await;
    assert!(replica.is_ready().await);

    // Without the setting.
    let more = [("PASSBOOK_LEDGER_URL", "")];
    let replica = OwnReplica::start_service(&stack, "account-service", "without.log", &more);
    ready(&replica).await;
    let own = replica.client(&stack);
    only_reads_of_the_ledger_fail(&own, &account, (501, "ledger-reads-off")).await;
    let answer = query(&own, &path, LEDGER).await;
    assert!(answer.text("detail").contains("PASSBOOK_LEDGER_URL"), "{answer:?}");
}

async fn ready(replica: &OwnReplica) {
    eventually("the replica is ready", Duration::from_secs(30), || async {
        replica.is_ready().await.then_some(())
    })
    .await;
}
