//! Responses that their client does not read. They take a share of the memory, and their connection
//! ends.

use std::{collections::HashSet, time::Duration};

use contract::Scopes;
use futures::{StreamExt, stream};
use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http2,
    header::AUTHORIZATION,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tests::{Client, Stack, client::new_key, eventually, memory::resident};
use tokio::{net::TcpStream, task::JoinHandle};

const REPLICA: &str = "account-service-0";
/// A caller's share: a quarter of that of all, which is at most 256 MiB.
const SHARE: usize = 64 << 20;
/// The growth of the process in KiB that would not be the share: what the last pages took while
/// they were made, too.
const GROWTH: u64 = 192 << 10;
/// A connection may have 200 requests at once.
const AT_ONCE: usize = 190;
const FEW: usize = 8;
const SOON: Duration = Duration::from_secs(30);

/// Sends requests for the same page on one connection, whose client reads no body. Gives
/// the heads of the responses.
async fn heads(
    address: &str,
    path: &str,
    token: &str,
) -> (Vec<Response<Incoming>>, JoinHandle<()>) {
    let socket = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(1);
    let (sender, connection) = builder.handshake::<_, Empty<Bytes>>(socket).await.unwrap();
    let running = tokio::spawn(async move {
        let _ended = connection.await;
    });
    let responses = stream::iter(0..AT_ONCE).map(|_| {
        let request = Request::get(format!("http://{address}{path}"))
            .header(AUTHORIZATION, format!("Bearer {token}"))
            .body(Empty::new())
            .unwrap();
        sender.clone().send_request(request)
    });
    // More at a time could wait too long for a connection to the database.
    let responses = responses.buffered(FEW).map(Result::unwrap).collect().await;
    (responses, running)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_reads_no_responses_has_a_share_of_the_memory_and_harms_nobody() {
    let stack = Stack::shared().await;
    // Not the teller of other tests.
    let client = Client::user(stack, &new_key(), Scopes::all()).at(stack, REPLICA);
    let account = client.open_account("KRW").await;
    let metadata: serde_json::Map<_, _> =
        (0..8).map(|key| (key.to_string(), json!("\"".repeat(400)))).collect();
    let items: Vec<_> = (0..100)
        .map(|_| {
            json!({ "accountId": account, "type": "DEPOSIT", "amount": "1",
                "idempotencyKey": new_key(), "description": "\u{1d11e}".repeat(1000),
                "metadata": metadata })
        })
        .collect();
    for items in items.chunks(20) {
        let stored = client.post("/v1/batches", &[], &json!({ "items": items })).await;
        assert_eq!(stored.status, 200, "{stored:?}");
    }
    let path = format!("/v1/accounts/{account}/records?limit=100");
    let page = client.get(&path).await;
    assert_eq!(page.status, 200, "{page:?}");

    let file = stack.file();
    let process = file.processes.iter().find(|process| process.name == REPLICA).unwrap();
    let address = process.http.as_deref().unwrap().trim_start_matches("http://");
    let before = resident(process.pid).unwrap();
    let (responses, running) = heads(address, &path, client.token()).await;
    let grown = resident(process.pid).unwrap().saturating_sub(before);
    let (unread, refused): (Vec<_>, Vec<_>) =
        responses.into_iter().partition(|response| response.status() == 200);
    let size: usize = unread[0].headers()["content-length"].to_str().unwrap().parse().unwrap();
    println!("{} of {AT_ONCE} pages of {size} bytes unread: {grown} KiB", unread.len());
    assert_eq!(unread.len(), SHARE / size);
    let statuses: HashSet<_> = refused.iter().map(Response::status).collect();
    assert_eq!(statuses, HashSet::from([StatusCode::TOO_MANY_REQUESTS]));
    assert!(grown < GROWTH, "{grown} KiB");
    let problem = refused.into_iter().next().unwrap();
    assert_eq!(problem.headers()["retry-after"], "1");
    let problem = problem.into_body().collect().await.unwrap().to_bytes();
    assert!(problem.windows(17).any(|text| text == b"too-many-requests"), "{problem:?}");

    // Others have large ones, too.
    let other = Client::user(stack, &new_key(), Scopes::all()).at(stack, REPLICA);
    assert_eq!(other.get(&path).await.status, 200);
    drop(unread);
    running.abort();
    eventually("what was not read takes no memory any more", SOON, || async {
        (client.get(&path).await.status == 200).then_some(())
    })
    .await;
}
