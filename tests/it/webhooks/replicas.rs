//! Several replicas, and replicas that are killed.

use std::collections::{BTreeMap, BTreeSet};

use nix::sys::signal::Signal;
use tests::process::signal;

use super::{
    Endpoint, SOON, customer, open_accounts,
    receiver::{Receiver, SILENT},
    shared, start,
};

#[tokio::test]
async fn two_replicas_deliver_every_event_and_seldom_twice() {
    let ann = customer(shared().await);
    let receivers = [Receiver::start().await, Receiver::start().await, Receiver::start().await];
    for receiver in &receivers {
        Endpoint::create(&ann, receiver).await;
    }
    let accounts = open_accounts(&ann, 40).await;
    for receiver in &receivers {
        receiver.received_all(&accounts, SOON).await;
        let mut arrived = BTreeMap::<_, usize>::new();
        for delivery in receiver.deliveries() {
            *arrived.entry(delivery.id).or_default() += 1;
        }
        let twice = arrived.values().filter(|count| **count > 1).count();
        assert!(arrived.len() == 40 && twice < 10, "{arrived:?}");
    }
}

#[tokio::test]
async fn a_killed_service_loses_no_event() {
    let stack = start("webhooks-killed", "1").await;
    let ann = customer(&stack);
    let receiver = Receiver::start().await;
    Endpoint::create(&ann, &receiver).await;
    let mut accounts = Vec::new();
    for round in 1..=3 {
        // Killed while requests wait for their answers.
        receiver.answer(SILENT);
        let before = receiver.deliveries().len();
        accounts.extend(open_accounts(&ann, 5).await);
        receiver.received(before + 1, SOON).await;
        let pid = stack.pid("webhook-service-0");
        signal(pid, Signal::SIGKILL);
        receiver.answer(204);
        accounts.extend(open_accounts(&ann, 5).await);
        stack.restarted("webhook-service-0", pid, SOON).await;
        // A minute later, when the lease of the killed process has ended.
        let later = "UPDATE webhook_endpoints SET lease_until = lease_until - interval '1 minute'
                     WHERE lease_until > now()";
        sqlx::query(later).execute(&stack.accounts().await).await.unwrap();
        receiver.received_all(&accounts, SOON).await;
        let taken = receiver.deliveries().into_iter().filter(|delivery| delivery.is_taken());
        let taken: BTreeSet<_> = taken.map(|delivery| delivery.id).collect();
        assert_eq!(taken.len(), accounts.len(), "round {round}");
    }
}
