//! One rendering at a time, and its ends.

use std::time::{Duration, Instant};

use report_document::{Document, Format};
use reqwest::StatusCode;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    documents::MadeEntries,
    server::{Server, TOKEN, eventually, inline, request, small, start},
};

/// A request that takes seconds.
fn long(server: &Server) -> Value {
    let entries = MadeEntries { count: 100_000, exponent: 0, extra: 0 };
    let statement = entries.statement("KRW");
    request(Format::Camt053, &server.store(&Document::Statement(&statement, &entries)))
}

fn short() -> Value {
    let statement = small().statement("USD");
    request(Format::Csv, &inline(&Document::Statement(&statement, &small())))
}

/// Sends the request without reading the answer.
async fn send(server: &Server, body: &Value) -> TcpStream {
    let address = server.url.trim_start_matches("http://").trim_end_matches('/');
    let mut client = TcpStream::connect(address).await.unwrap();
    let body = body.to_string();
    let head = format!(
        "POST / HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {TOKEN}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    client.write_all(head.as_bytes()).await.unwrap();
    client.write_all(body.as_bytes()).await.unwrap();
    client
}

/// Sends the request and waits until it is rendered.
async fn rendering(server: &Server, body: &Value) -> TcpStream {
    let client = send(server, body).await;
    // The document, and the file.
    eventually("rendering", async || server.scratch_files() == 2).await;
    client
}

#[tokio::test]
async fn a_second_request_is_told_to_come_again() {
    let server = start(&[]).await;
    let mut first = rendering(&server, &long(&server)).await;
    let second = server.post(&short()).await;
    assert_eq!(second.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(second.headers()["retry-after"], "5");
    let mut answer = Vec::new();
    first.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 OK"));
    assert_eq!(server.post(&short()).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn two_permits_render_two_reports() {
    let server = start(&["--report-renderer-concurrency", "2"]).await;
    let _first = rendering(&server, &long(&server)).await;
    assert_eq!(server.post(&short()).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_rendering_stops_when_its_client_disconnects() {
    let server = start(&[]).await;
    let began = Instant::now();
    let request = long(&server);
    let written = began.elapsed();
    drop(rendering(&server, &request).await);
    let disconnected = Instant::now();
    eventually("stopped", async || server.scratch_files() == 0).await;
    // A whole rendering takes longer than writing its document did.
    assert!(disconnected.elapsed() < written, "{:?}, {written:?}", disconnected.elapsed());
    eventually("free", async || server.post(&short()).await.status() == StatusCode::OK).await;
    assert!(std::fs::read_dir(server.storage.path()).unwrap().count() == 1, "only the document");
}

#[tokio::test]
async fn a_rendering_has_a_time_limit() {
    let server = start(&["--report-renderer-timeout", "1ms"]).await;
    let (status, problem, _) = server.refusal(&long(&server)).await;
    assert_eq!((status, problem.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "stopped"));
}

#[tokio::test]
async fn a_stop_waits_for_the_rendering_in_process() {
    let server = start(&[]).await;
    let mut client = rendering(&server, &long(&server)).await;
    server.stop.cancel();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 OK"));
    tokio::time::timeout(Duration::from_secs(10), server.running).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn after_the_grace_period_a_rendering_ends_with_503() {
    let server = start(&["--grace-period", "1ms"]).await;
    let mut client = rendering(&server, &long(&server)).await;
    server.stop.cancel();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 503 "), "{}", String::from_utf8_lossy(&answer[..99]));
    tokio::time::timeout(Duration::from_secs(10), server.running).await.unwrap().unwrap().unwrap();
}
