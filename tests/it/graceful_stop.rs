//! Graceful stop: SIGTERM to replicas under load.

use std::{
    io::Write,
    net::TcpStream,
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
use tests::{Client, Stack, broker, client::new_key, eventually, invariants, process::signal};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_to_each_replica_in_turn_fails_no_request_and_leaves_nothing_unacked() {
    let stack = Stack::start("graceful-stop").await;
    let client = Client::teller(&stack);
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
                let response = client.send(Method::POST, &path, &headers, Some(body.into())).await;
                let response = response.unwrap_or_else(|error| panic!("no response: {error:?}"));
                assert!(matches!(response.status, 200 | 202), "{response:?}");
                answered += 1;
            }
            answered
        })
    }));
    let load = tokio::spawn(load);
    // Half a head does not hold up the stop.
    let half_head = |name: &str| {
        let file = stack.file();
        let process = file.processes.iter().find(|process| process.name == name).unwrap();
        let [api, admin] = [&process.http, &process.admin].map(|url| {
            let url = url.as_deref().unwrap();
            let mut socket = TcpStream::connect(url.trim_start_matches("http://")).unwrap();
            socket.write_all(b"GET /livez HTTP/1.1\r\nhost: p").unwrap();
            socket
        });
        (api, admin)
    };
    for replica in [0, 1] {
        let _half_heads = half_head(&format!("account-service-{replica}"));
        let names =
            [format!("account-service-{replica}"), format!("transaction-service-{replica}")];
        let before = names.clone().map(|name| stack.pid(&name));
        for pid in before {
            signal(pid, Signal::SIGTERM);
        }
        for (name, before) in names.iter().zip(before) {
            stack.restarted(name, before, Duration::from_secs(30)).await;
        }
        let processes = stack.file().processes.into_iter();
        for service in processes.filter(|process| process.admin.is_some()) {
            stack.replica_ready(&service.name).await;
        }
    }
    for replica in [0, 1] {
        let log = stack.dir.join(format!("logs/account-service-{replica}.log"));
        let log = std::fs::read_to_string(log).unwrap();
        assert!(!log.contains("requests still ran"), "{log}");
    }
    stop.store(true, Ordering::Relaxed);
    let answered: u64 = load.await.unwrap().into_iter().map(Result::unwrap).sum();
    println!("{answered} requests while every replica was restarted, none failed");
    assert!(answered > 100, "{answered}");

    let jetstream = broker::connect(&stack).await;
    for (stream, consumer) in
        [("TRANSACTION", "deposit-consumer"), ("TRANSACTION_RESULT", "account-result-consumer")]
    {
        // Less than the ack wait of 30 s, so that no message waits for a redelivery.
        broker::all_acked(&jetstream, stream, consumer, Duration::from_secs(5)).await;
    }
    let shown = client.account(&account).await;
    assert_eq!(shown.text("balance"), answered.to_string());
    invariants::assert_verified(&stack).await;
}

#[tokio::test]
async fn a_stopping_replica_tells_clients_to_reconnect_and_still_serves_them() {
    let stack = Stack::start("draining").await;
    let client = Client::teller_at(&stack, "account-service-0");
    let account = client.open_account("KRW").await;
    assert_eq!(client.account(&account).await.header("connection"), None);
    signal(stack.pid("account-service-0"), Signal::SIGTERM);
    // The replica closes its listener a second after the signal.
    eventually(
        "a response asks the client to close the connection",
        Duration::from_millis(900),
        || async {
            let response = client.account(&account).await;
            assert_eq!(response.status, 200);
            (response.header("connection") == Some("close")).then_some(())
        },
    )
    .await;
}
