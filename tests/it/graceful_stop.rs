//! SIGTERM while requests run.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::json;
use tests::{Client, Stack, broker, checks, client::new_key, eventually, stack};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_to_each_replica_in_turn_fails_no_request_and_leaves_nothing_unacked() {
    let running = Stack::start("graceful-stop").await;
    let client = Client::teller(&running);
    let account = client.open_account("KRW").await;
    let stop = Arc::new(AtomicBool::new(false));
    let load = join_all((0..16).map(|_| {
        let (client, account, stop) = (client.clone(), account.clone(), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut answered = 0u64;
            while !stop.load(Ordering::Relaxed) {
                let path = format!("/v1/accounts/{account}/deposits");
                let key = new_key();
                let headers = [
                    ("content-type", "application/json"),
                    ("idempotency-key", key.as_str()),
                    ("prefer", "wait=10"),
                ];
                let body = json!({ "amount": "1" }).to_string();
                let answer = client.send(Method::POST, &path, &headers, Some(body.into())).await;
                let answer = answer.unwrap_or_else(|error| panic!("no answer: {error:?}"));
                assert!(matches!(answer.status, 200 | 202), "{answer:?}");
                answered += 1;
            }
            answered
        })
    }));
    let load = tokio::spawn(load);
    for replica in [0, 1] {
        let names =
            [format!("account-service-{replica}"), format!("transaction-service-{replica}")];
        let before = names.clone().map(|name| running.pid(&name));
        for pid in before {
            stack::signal(pid, Signal::SIGTERM);
        }
        for (name, before) in names.iter().zip(before) {
            eventually("it ends and comes back", Duration::from_secs(30), || async {
                (running.pid(name) != before).then_some(())
            })
            .await;
        }
        let ready = running.file().processes.into_iter().filter_map(|it| it.admin);
        for admin in ready {
            let probe = Client::new(&admin, "");
            eventually("it is ready again", Duration::from_secs(30), || async {
                let answer = probe.send(Method::GET, "/readyz", &[], None).await.ok()?;
                (answer.status == 200).then_some(())
            })
            .await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    let answered: u64 = load.await.unwrap().into_iter().map(Result::unwrap).sum();
    println!("{answered} requests while every replica was restarted, not one failed");
    assert!(answered > 100, "{answered}");

    let jetstream = broker::connect(&running).await;
    for (stream, consumer) in
        [("TRANSACTION", "deposit-consumer"), ("TRANSACTION_RESULT", "account-result-consumer")]
    {
        // Less than the ack wait of 30 s: nothing waits for a redelivery.
        eventually("nothing is left unacked", Duration::from_secs(5), || async {
            (broker::unacked(&jetstream, stream, consumer).await == (0, 0)).then_some(())
        })
        .await;
    }
    let shown = client.account(&account).await;
    assert_eq!(shown.text("balance"), answered.to_string());
    checks::assert_verified(&running).await;
}

#[tokio::test]
async fn a_stopping_replica_tells_clients_to_reconnect_and_still_serves_them() {
    let running = Stack::start("draining").await;
    let client = Client::teller_at(&running, "account-service-0");
    let account = client.open_account("KRW").await;
    assert_eq!(client.account(&account).await.header("connection"), None);
    stack::signal(running.pid("account-service-0"), Signal::SIGTERM);
    // It closes its listener a second after the signal.
    eventually("it says that it closes", Duration::from_millis(900), || async {
        let answer = client.account(&account).await;
        assert_eq!(answer.status, 200);
        (answer.header("connection") == Some("close")).then_some(())
    })
    .await;
}
