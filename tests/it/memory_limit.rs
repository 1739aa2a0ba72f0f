//! Services that the kernel kills at their memory limit in the middle of a batch, as in a
//! container, and that are started again.

use std::time::Duration;

use runtime::postgres::PgPool;
use sqlx::AssertSqlSafe;
use tests::{Depositors, Stack, broker, memory_limit::MemoryLimit, wait};

const CLIENTS: usize = 16;
const SOON: Duration = Duration::from_secs(30);
/// Only what a process takes after the limit was set counts: its next page is too much.
const LIMIT: u64 = 4096;
const SERVICES: [(&str, &str, &str); 2] = [
    ("transaction-service", "TRANSACTION", "deposit-consumer"),
    ("account-service", "TRANSACTION_RESULT", "account-result-consumer"),
];

/// Kills a service at its limit while it waits for a row, with its batch in its hands.
async fn kill_in_a_batch(
    stack: &Stack,
    load: &Depositors,
    (service, stream, consumer): (&str, &str, &str),
    database: &PgPool,
) -> bool {
    let Some(limit) = MemoryLimit::create(&format!("passbook-{service}"), LIMIT) else {
        return false;
    };
    let (name, mut holder) = (format!("{service}-0"), database.begin().await.unwrap());
    let lock = format!("SELECT 1 FROM accounts WHERE account_id = '{}' FOR UPDATE", load.account);
    sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut *holder).await.unwrap();
    wait::for_lock(database, service, SOON).await;
    let before = stack.pid(&name);
    limit.apply_to(before);
    holder.rollback().await.unwrap();
    wait::eventually_now("the kernel kills the process", SOON, || {
        (limit.kills() > 0).then_some(())
    })
    .await;
    // It starts again after a second.
    let (unacked, _) = broker::unacked(&broker::connect(stack).await, stream, consumer).await;
    assert!(unacked > 0, "{name} had no message in its hands");
    stack.restarted(&name, before, SOON).await;
    stack.replica_ready(&name).await;
    let took = load.settles(SOON).await;
    println!("{name} was killed at its memory limit; a deposit was settled {took:.1?} later");
    true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_killed_by_their_memory_limit_in_a_batch_lose_nothing_and_are_back() {
    let arguments = ["--port", "0", "--account-replicas", "1", "--transaction-replicas", "1"];
    let stack = Stack::start_in(&tests::stack::folder("memory-limit"), &arguments).await;
    let load = Depositors::start(&stack, CLIENTS).await;
    load.settles(SOON).await;
    let (ledger, accounts) = (stack.ledger().await, stack.accounts().await);
    for (service, database) in SERVICES.into_iter().zip([&ledger, &accounts]) {
        if !kill_in_a_batch(&stack, &load, service, database).await {
            println!("skipped: this user may not limit memory here");
            return;
        }
    }
    let deposits = load.finish(&stack, SOON).await;
    println!("{deposits} deposits settled");
}
