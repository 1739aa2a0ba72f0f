//! Services that the kernel kills at their memory limit in the middle of a batch, as in a
//! container, and that are started again.

use std::time::Duration;

use runtime::postgres::PgPool;
use tests::{Depositors, Stack, broker, memory_limit::MemoryLimit, wait};

const CLIENTS: usize = 16;
const SOON: Duration = Duration::from_secs(30);
/// Of a service, until it has messages in its hands.
const MAX_KILLS: u32 = 5;
/// Only what a process takes after the limit was set counts: its next page is too much.
const LIMIT: u64 = 4096;
const SERVICES: [(&str, &str, &str); 2] = [
    ("transaction-service", "TRANSACTION", "deposit-consumer"),
    ("account-service", "TRANSACTION_RESULT", "account-result-consumer"),
];

/// Kills a service at its limit while it waits for a row. Gives whether it had messages in its hands:
/// with a small batch, it may need its next page only after the acks.
async fn kill_at_a_lock(
    stack: &Stack,
    load: &Depositors,
    limit: &MemoryLimit,
    (service, stream, consumer): (&str, &str, &str),
    database: &PgPool,
) -> bool {
    let name = format!("{service}-0");
    let holder = load.lock(database, service, SOON).await;
    let (before, kills) = (stack.pid(&name), limit.kills());
    limit.apply_to(before);
    holder.rollback().await.unwrap();
    wait::eventually_now("the kernel kills the process", SOON, || {
        (limit.kills() > kills).then_some(())
    })
    .await;
    // It starts again after a second.
    let (unacked, _) = broker::unacked(&broker::connect(stack).await, stream, consumer).await;
    stack.restarted(&name, before, SOON).await;
    stack.replica_ready(&name).await;
    let took = load.settles(SOON).await;
    println!(
        "{name} was killed at its memory limit with {unacked} messages in its hands; a deposit was \
         settled {took:.1?} later"
    );
    unacked > 0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_killed_by_their_memory_limit_in_a_batch_lose_nothing_and_are_back() {
    let arguments = ["--port", "0", "--account-replicas", "1", "--transaction-replicas", "1"];
    let stack =
        Stack::start_in(&tests::stack::initialized_folder("memory-limit").await, &arguments).await;
    let load = Depositors::start(&stack, CLIENTS).await;
    load.settles(SOON).await;
    let (ledger, accounts) = (stack.ledger().await, stack.accounts().await);
    for (service, database) in SERVICES.into_iter().zip([&ledger, &accounts]) {
        let Some(limit) = MemoryLimit::create(&format!("passbook-{}", service.0), LIMIT) else {
            println!("skipped: this user may not limit memory here");
            return;
        };
        let mut kills = 0;
        while !kill_at_a_lock(&stack, &load, &limit, service, database).await {
            kills += 1;
            assert!(kills < MAX_KILLS, "{} never had a message in its hands", service.0);
        }
    }
    let deposits = load.finish(&stack, SOON).await;
    println!("{deposits} deposits settled");
}
