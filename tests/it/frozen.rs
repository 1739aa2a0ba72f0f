//! Services frozen by SIGSTOP for longer than the ack wait, with messages in their hands, and
//! continued: one replica, all replicas of a kind, one that holds all that the broker hands out.
//!
//! At small size, the ack wait of the broker is two seconds.

use std::time::Duration;

use async_nats::jetstream::Context;
use runtime::postgres::PgPool;
use tests::{
    Depositors, Stack, broker, eventually, process,
    process::Paused,
    scale::{full, size},
};

const COMMANDS: (&str, &str) = ("TRANSACTION", "deposit-consumer");
const RESULTS: (&str, &str) = ("TRANSACTION_RESULT", "account-result-consumer");
const CLIENTS: usize = 8;
/// A small limit of unacked messages, which one worker reaches.
const FEW: i64 = 4;
/// A frozen process's own requests may need its database's limits to end first.
const SOON: Duration = Duration::from_secs(20);

fn ack_wait() -> Duration {
    size(Duration::from_secs(30), Duration::from_secs(2))
}

/// PostgreSQL ends a transaction that is idle for ten seconds.
const LONGER_THAN_A_TRANSACTION: Duration = Duration::from_secs(11);

async fn change_limits(jetstream: &Context, (stream, name): (&str, &str), unacked: i64) {
    broker::change_consumer(jetstream, stream, name, |config| {
        config.ack_wait = ack_wait();
        config.max_ack_pending = unacked;
    })
    .await;
}

/// Freezes the only worker that pulls, with all messages that may be unacked. It holds fewer if it
/// had no open pull at that moment: then it is frozen again.
async fn freeze_with_everything(stack: &Stack, jetstream: &Context) -> Paused {
    eventually("the frozen worker holds all that may be unacked", SOON, || async {
        let paused = Paused::new([stack.pid("transaction-service-0")]);
        broker::no_open_pulls(jetstream, COMMANDS.0, COMMANDS.1).await;
        let (unacked, _) = broker::unacked(jetstream, COMMANDS.0, COMMANDS.1).await;
        (unacked == usize::try_from(FEW).unwrap()).then_some(paused)
    })
    .await
}

/// Waits until all messages delivered so far are acked.
async fn delivered_is_acked(jetstream: &Context) {
    let consumer = broker::consumer(jetstream, COMMANDS.0, COMMANDS.1).await;
    let delivered = consumer.cached_info().delivered.stream_sequence;
    eventually("all messages delivered so far are acked", ack_wait() + SOON, || async {
        let consumer = broker::consumer(jetstream, COMMANDS.0, COMMANDS.1).await;
        (consumer.cached_info().ack_floor.stream_sequence >= delivered).then_some(())
    })
    .await;
}

/// A worker that is frozen with as many messages as the broker hands out stops the other one until
/// the ack wait ends, and no longer.
async fn freeze_one_with_everything(stack: &Stack, jetstream: &Context, load: &Depositors) {
    change_limits(jetstream, COMMANDS, FEW).await;
    let [first, second] = ["transaction-service-0", "transaction-service-1"]
        .map(|name| Paused::new([stack.pid(name)]));
    broker::no_open_pulls(jetstream, COMMANDS.0, COMMANDS.1).await;
    drop(first);
    // The second one's messages are delivered to the first. Then only the first pulls.
    delivered_is_acked(jetstream).await;
    let first = freeze_with_everything(stack, jetstream).await;
    let doctor = process::run(&["doctor", "--dir", stack.dir.to_str().unwrap()]).await;
    let doctor = String::from_utf8(doctor.stdout).unwrap();
    assert!(doctor.contains("4 messages are unacked, which is its max_ack_pending"), "{doctor}");
    drop(second);
    // Its messages go to the other, which then continues. With so small a limit, the backlog of a
    // longer ack wait would take minutes.
    delivered_is_acked(jetstream).await;
    change_limits(jetstream, COMMANDS, 20_000).await;
    let took = load.settles(SOON).await;
    println!(
        "one held everything: a deposit was settled by the other {took:.1?} after the ack wait"
    );
    if full() {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    let redelivered = broker::redeliveries(jetstream, COMMANDS.0, COMMANDS.1).await;
    assert!(redelivered >= u64::try_from(FEW).unwrap(), "{redelivered}");
    drop(first);
}

/// Freezes all replicas in the middle of a transaction, which waits for a row at that moment.
async fn freeze_all(
    stack: &Stack,
    load: &Depositors,
    service: &str,
    database: &PgPool,
    time: Duration,
) {
    let holder = load.lock(database, service, SOON).await;
    let paused = Paused::new([0, 1].map(|number| stack.pid(&format!("{service}-{number}"))));
    holder.rollback().await.unwrap();
    tokio::time::sleep(time).await;
    drop(paused);
    let took = load.settles(SOON).await;
    println!("{service}: all frozen for {time:?}; a deposit was settled {took:.1?} after the thaw");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_frozen_for_longer_than_the_ack_wait_lose_and_double_nothing() {
    let stack = Stack::start("frozen").await;
    let jetstream = broker::connect(&stack).await;
    let (ledger, accounts) = (stack.ledger().await, stack.accounts().await);
    for consumer in [COMMANDS, RESULTS] {
        change_limits(&jetstream, consumer, 20_000).await;
    }
    let load = Depositors::start(&stack, CLIENTS).await;
    load.settles(SOON).await;

    freeze_one_with_everything(&stack, &jetstream, &load).await;
    let paused = Paused::new([stack.pid("account-service-0")]);
    let took = load.settles(ack_wait() + SOON).await;
    println!("account-service-0 frozen: a deposit was settled by the other after {took:.1?}");
    tokio::time::sleep(size(Duration::from_secs(45), ack_wait())).await;
    drop(paused);

    let time = size(Duration::from_secs(90), LONGER_THAN_A_TRANSACTION);
    freeze_all(&stack, &load, "transaction-service", &ledger, time).await;
    let time = size(Duration::from_secs(90), ack_wait() + Duration::from_secs(1));
    freeze_all(&stack, &load, "account-service", &accounts, time).await;

    let deposits = load.finish(&stack, SOON).await;
    println!("{deposits} deposits settled");
    assert!(deposits > 100, "{deposits}");
    let used_up = broker::stream(&jetstream, "USED_UP").await.state.last_sequence;
    assert_eq!(used_up, 0, "a freeze used up all deliveries of a message");
}
