//! SIGTERM to the webhook-service.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use tests::process::{read_log, signal};

use super::{
    Endpoint, SOON, customer, open_accounts,
    receiver::{Receiver, SILENT},
    start_with,
};

#[tokio::test]
async fn a_stop_waits_for_no_receiver_that_hangs_and_gives_its_endpoint_back() {
    let settings = ["PASSBOOK_WEBHOOK_TIMEOUT=20s", "PASSBOOK_GRACE_PERIOD=8s"];
    let arguments = ["--webhook-replicas", "1"];
    let stack = start_with("webhooks-stopped", &arguments, &settings.map(str::to_owned)).await;
    let ann = customer(&stack);
    let receiver = Receiver::start().await;
    Endpoint::create(&ann, &receiver).await;
    let mut opened = open_accounts(&ann, 2).await;
    receiver.received_all(&opened, SOON).await;
    receiver.answer(SILENT);
    opened.extend(open_accounts(&ann, 1).await);
    let silent = receiver.received(3, SOON).await.remove(2).id;
    receiver.answer(204);
    let (pid, begun) = (stack.pid("webhook-service-0"), Instant::now());
    signal(pid, Signal::SIGTERM);
    // Before the attempt would have ended.
    stack.restarted("webhook-service-0", pid, Duration::from_secs(15)).await;
    // The next process has the endpoint before the lease of the first one would have ended.
    opened.extend(open_accounts(&ann, 2).await);
    receiver.received_all(&opened, SOON).await;
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
    let log = read_log(&stack.dir.join("logs/webhook-service-0.log"));
    assert!(log.contains("\"stopped\"") && !log.contains("still running"), "{log}");
    let mut arrived = HashMap::<_, usize>::new();
    for delivery in receiver.deliveries() {
        *arrived.entry(delivery.id).or_default() += 1;
    }
    for (id, times) in arrived {
        assert_eq!(times, if id == silent { 2 } else { 1 }, "{id}");
    }
}
