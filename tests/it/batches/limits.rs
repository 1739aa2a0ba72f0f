//! The limits of batches: waiting, slow or large ones delay no others.

use std::time::{Duration, Instant};

use devstack::Fault;
use futures::future::join_all;
use serde_json::json;
use tests::{Client, Stack, client::new_key, eventually};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use super::{item, post};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_batches_keep_no_other_batch_out() {
    let stack = Stack::start_with_faults("waiting-batches").await;
    let client = Client::teller_at(&stack, "account-service-0");
    let account = client.open_account("KRW").await;
    stack.fault("transaction-service-*", Fault::Hold).await;
    let wait = [("prefer", "wait=8")];
    // More than batches may be in process, and more than may wait.
    let waiting = (0..24).map(|_| async {
        let items = [item(&account, "DEPOSIT", "1", &new_key())];
        client.post("/v1/batches", &wait, &json!({ "items": items })).await
    });
    let other = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let begun = Instant::now();
        let response = post(&client, &[item(&account, "DEPOSIT", "1", &new_key())]).await;
        assert_eq!(response.body["items"][0]["status"], 202, "{response:?}");
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    };
    let (answers, ()) = futures::join!(join_all(waiting), other);
    let waited = answers.iter().filter(|one| one.header("preference-applied").is_some()).count();
    assert!((1..=16).contains(&waited), "{waited} waited");
    assert!(answers.iter().all(|one| one.body["items"][0]["status"] == 202), "{answers:?}");
    stack.fault("transaction-service-*", Fault::Release).await;
    eventually("all settle", Duration::from_secs(30), || async {
        (client.account(&account).await.text("balance") == "25").then_some(())
    })
    .await;
}

const REPLICA: &str = "account-service-0";

/// Sends the beginnings of batches, and nothing more. Gives their responses.
async fn begin_batches(stack: &Stack, client: &Client, number: usize) -> JoinSet<String> {
    let file = stack.file();
    let process = file.processes.iter().find(|process| process.name == REPLICA).unwrap();
    let address = process.http.as_deref().unwrap().trim_start_matches("http://");
    let begin = format!(
        "POST /v1/batches HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: 1000\r\n\r\n{{",
        client.token()
    );
    let mut batches = JoinSet::new();
    for _ in 0..number {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(begin.as_bytes()).await.unwrap();
        batches.spawn(async move {
            let mut response = Vec::new();
            let _ = socket.read_to_end(&mut response).await;
            String::from_utf8(response).unwrap()
        });
    }
    batches
}

/// More bodies than may arrive at once (24), and than batches may be in process (8).
const SLOW_BODIES: usize = 40;

#[tokio::test]
async fn slow_bodies_do_not_keep_other_batches_out() {
    let stack = Stack::shared().await;
    let client = Client::teller_at(stack, REPLICA);
    let mut slow = begin_batches(stack, &client, SLOW_BODIES).await;
    let account = client.open_account("KRW").await;
    let asked = Instant::now();
    let response = post(&client, &[item(&account, "DEPOSIT", "1", &new_key())]).await;
    assert_eq!(response.status, 200, "{}", response.body);
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    // Each of them is told why, some at once and the others after the time limit of a body.
    while let Some(response) = slow.join_next().await {
        let response = response.unwrap();
        assert!(response.starts_with("HTTP/1.1 408 "), "{response}");
        assert!(response.contains("/problems/body-too-slow"), "{response}");
    }
}

/// Nearly all requests that a customer may send at once.
const BATCHES_OF_ONE: usize = 190;

#[tokio::test]
async fn the_slow_batches_of_a_customer_delay_no_batch_of_others() {
    let stack = Stack::shared().await;
    let [slow, other] = [(); 2].map(|()| Client::merchant(stack, &new_key()).at(stack, REPLICA));
    let account = other.open_account("KRW").await;
    let mut batches = begin_batches(stack, &slow, BATCHES_OF_ONE).await;
    for _ in 0..5 {
        let asked = Instant::now();
        let response = post(&other, &[item(&account, "DEPOSIT", "1", &new_key())]).await;
        assert_eq!(response.status, 200, "{}", response.body);
        assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    }
    // The customer's own ones wait for each other, for a time.
    let response = batches.join_next().await.unwrap().unwrap();
    assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
    assert!(response.contains("/problems/unavailable"), "{response}");
}

#[tokio::test]
async fn the_movements_in_a_customers_batches_are_limited() {
    let stack = Stack::shared().await;
    let customer = Client::merchant(stack, &new_key()).at(stack, REPLICA);
    let account = customer.open_account("KRW").await;
    // Refused movements are work, too.
    let thousand: Vec<_> =
        (0..1000).map(|number| item(&account, "DEPOSIT", "0", &number.to_string())).collect();
    let mut limited = None;
    for _ in 0..4 {
        let response = post(&customer, &thousand).await;
        let policy = "\"customer\";q=200;w=10, \"customer-batch\";q=2000;w=10";
        assert_eq!(response.header("ratelimit-policy"), Some(policy), "{response:?}");
        let remaining = response.header("ratelimit").unwrap();
        assert!(remaining.contains(", \"customer-batch\";r="), "{remaining}");
        if response.status != 200 {
            limited = Some(response);
            break;
        }
    }
    let limited = limited.expect("no batch was limited");
    assert_eq!((limited.status, limited.problem()), (429, "too-many-requests"), "{limited:?}");
    let wait: u64 = limited.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=5).contains(&wait), "{limited:?}");
    // Single movements, small batches of others and of tellers are not.
    let single = customer.deposit(&account, "1").await;
    assert_eq!(single.status, 200, "{single:?}");
    let other = Client::merchant(stack, &new_key()).at(stack, REPLICA);
    assert_eq!(post(&other, &thousand).await.status, 200);
    let teller = Client::teller_at(stack, REPLICA);
    for _ in 0..5 {
        let response = post(&teller, &thousand).await;
        assert_eq!((response.status, response.header("ratelimit")), (200, None));
    }
    // The same batch is taken when the customer has waited as long as told.
    tokio::time::sleep(Duration::from_secs(wait)).await;
    let again = post(&customer, &thousand).await;
    assert_eq!(again.status, 200, "{again:?}");
}
