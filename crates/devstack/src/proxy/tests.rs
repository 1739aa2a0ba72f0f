//! The proxy between raw connections.

use std::{future::Future, net::Ipv4Addr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::Instant,
};

use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const LIMIT: Duration = Duration::from_secs(5);

async fn listener() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap()
}

fn address(listener: &TcpListener) -> String {
    listener.local_addr().unwrap().to_string()
}

/// A proxy in front of replicas with these addresses.
async fn proxy(replicas: &[String]) -> (Proxy, String) {
    let limits = Limits { head: LIMIT, idle: LIMIT, connections: 100 };
    limited_proxy(replicas, limits).await
}

async fn limited_proxy(replicas: &[String], limits: Limits) -> (Proxy, String) {
    let upstreams = replicas.iter().enumerate().map(|(number, address)| {
        Upstream::new(format!("replica-{number}"), address.clone(), address.clone())
    });
    let pools = vec![Pool::new("accounts", &["/v1"], upstreams)];
    let listener = listener().await;
    let front = address(&listener);
    let routes = Arc::new(Routes::new(pools));
    let stop = CancellationToken::new();
    // Without readiness checks, which would be requests to the replicas.
    let task = tokio::spawn(serve(listener, routes, limits, stop.clone()));
    (Proxy { stop, task, _readiness: JoinSet::new() }, front)
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(LIMIT, future).await.unwrap_or_else(|_| panic!("{what} took too long"))
}

/// Reads until the text has this end.
async fn read_to(stream: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    let read = async {
        while !text.ends_with(end) {
            let mut bytes = [0; 1024];
            let count = stream.read(&mut bytes).await.unwrap();
            assert!(count > 0, "the connection ended after {text:?}");
            text.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
        }
    };
    timeout(LIMIT, read).await.unwrap_or_else(|_| panic!("waiting for {end:?}"));
    text
}

async fn read_all(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    soon("the end of the connection", stream.read_to_string(&mut text)).await.unwrap();
    text
}

async fn connect(front: &str, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(front).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

async fn accept(replica: &TcpListener) -> TcpStream {
    soon("a connection of the proxy", replica.accept()).await.unwrap().0
}

#[tokio::test]
async fn requests_in_one_packet_are_answered_in_their_order_by_the_replicas_in_turn() {
    let (a, b) = (listener().await, listener().await);
    let (_proxy, front) = proxy(&[address(&a), address(&b)]).await;
    let post = |key| {
        format!("POST /v1/x HTTP/1.1\r\nhost: h\r\nkey: {key}\r\ncontent-length: 4\r\n\r\nbody")
    };
    let mut client = connect(&front, &(post(1) + &post(2))).await;
    for (replica, key) in [(&a, 1), (&b, 2)] {
        let mut at_replica = accept(replica).await;
        let request = read_to(&mut at_replica, "body").await;
        assert!(request.contains(&format!("key: {key}\r\n")), "{request}");
        assert!(request.contains("x-forwarded-for: 127.0.0.1\r\n"), "{request}");
        let response = format!("HTTP/1.1 200 OK\r\nkey: {key}\r\ncontent-length: 0\r\n\r\n");
        at_replica.write_all(response.as_bytes()).await.unwrap();
        assert_eq!(read_to(&mut client, "\r\n\r\n").await, response);
    }
}

#[tokio::test]
async fn a_request_goes_to_the_next_replica_only_if_the_first_received_nothing() {
    let (unreachable, a, b) = (listener().await, listener().await, listener().await);
    let addresses = [&unreachable, &a, &b].map(address);
    drop(unreachable);
    let (_proxy, front) = proxy(&addresses).await;
    let get = "GET /v1 HTTP/1.1\r\nhost: h\r\n\r\n";
    let mut client = connect(&front, get).await;
    let mut at_replica = accept(&a).await;
    read_to(&mut at_replica, "\r\n\r\n").await;
    // It ends without a response.
    drop(at_replica);
    let response = read_to(&mut client, "}").await;
    assert!(response.starts_with("HTTP/1.1 502 "), "{response}");
    assert!(timeout(Duration::from_millis(100), b.accept()).await.is_err(), "it was repeated");
}

#[tokio::test]
async fn a_connection_that_the_replica_has_closed_is_not_used_again() {
    let replica = listener().await;
    let (_proxy, front) = proxy(&[address(&replica)]).await;
    let get = "GET /v1 HTTP/1.1\r\nhost: h\r\n\r\n";
    let mut client = connect(&front, get).await;
    let mut first = accept(&replica).await;
    for _ in 0..2 {
        // The same connection serves both.
        read_to(&mut first, "\r\n\r\n").await;
        first.write_all(OK.as_bytes()).await.unwrap();
        assert_eq!(read_to(&mut client, "ok").await, OK);
        client.write_all(get.as_bytes()).await.unwrap();
    }
    read_to(&mut first, "\r\n\r\n").await;
    first.write_all(OK.as_bytes()).await.unwrap();
    read_to(&mut client, "ok").await;
    drop(first);
    // The proxy's runtime must see the end of the connection first.
    sleep(Duration::from_millis(50)).await;
    client.write_all(get.as_bytes()).await.unwrap();
    let mut second = accept(&replica).await;
    read_to(&mut second, "\r\n\r\n").await;
    second.write_all(OK.as_bytes()).await.unwrap();
    assert_eq!(read_to(&mut client, "ok").await, OK);
}

#[tokio::test]
async fn the_replica_notices_that_the_client_has_gone() {
    let replica = listener().await;
    let (_proxy, front) = proxy(&[address(&replica)]).await;
    let client = connect(&front, "GET /v1 HTTP/1.1\r\nhost: h\r\n\r\n").await;
    let mut at_replica = accept(&replica).await;
    read_to(&mut at_replica, "\r\n\r\n").await;
    drop(client);
    assert_eq!(read_all(&mut at_replica).await, "");
}

#[tokio::test]
async fn a_body_follows_the_interim_response_and_its_chunks_are_unchanged() {
    let replica = listener().await;
    let (_proxy, front) = proxy(&[address(&replica)]).await;
    let head = "POST /v1 HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut client = connect(&front, head).await;
    let mut at_replica = accept(&replica).await;
    read_to(&mut at_replica, "\r\n\r\n").await;
    let interim = "HTTP/1.1 100 Continue\r\n\r\n";
    at_replica.write_all(interim.as_bytes()).await.unwrap();
    assert_eq!(read_to(&mut client, "\r\n\r\n").await, interim);
    for part in ["5\r\nhel", "lo\r\n0\r\n\r\n"] {
        client.write_all(part.as_bytes()).await.unwrap();
        assert_eq!(read_to(&mut at_replica, part).await, part);
    }
    let chunks = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    let (first, second) = chunks.split_at(50);
    at_replica.write_all(first.as_bytes()).await.unwrap();
    let received = read_to(&mut client, &first[first.len() - 4..]).await;
    at_replica.write_all(second.as_bytes()).await.unwrap();
    assert_eq!(received + &read_to(&mut client, "0\r\n\r\n").await, chunks);
}

#[tokio::test]
async fn a_response_before_the_end_of_the_body_closes_the_connection() {
    let replica = listener().await;
    let (_proxy, front) = proxy(&[address(&replica)]).await;
    let head = "POST /v1 HTTP/1.1\r\nhost: h\r\ncontent-length: 100000000\r\n\r\nbegin";
    let mut client = connect(&front, head).await;
    let mut at_replica = accept(&replica).await;
    read_to(&mut at_replica, "begin").await;
    let refusal = "HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n";
    at_replica.write_all(format!("{refusal}\r\n").as_bytes()).await.unwrap();
    let closing = format!("{refusal}connection: close\r\n\r\n");
    assert_eq!(read_all(&mut client).await, closing, "the client is told not to send more");
}

#[tokio::test]
async fn a_connection_with_a_body_that_was_rejected_is_not_used_again() {
    let replica = listener().await;
    let (_proxy, front) = proxy(&[address(&replica)]).await;
    let post = "POST /v1 HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n\r\nbody";
    let get = "GET /v1 HTTP/1.1\r\nhost: h\r\n\r\n";
    let refusal = "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n";
    let mut client = connect(&front, get).await;
    let mut first = accept(&replica).await;
    // A request without a body is read in full, even if it is rejected.
    for (request, end) in [(post, "\r\n\r\n"), (post, "body")] {
        read_to(&mut first, end).await;
        first.write_all(refusal.as_bytes()).await.unwrap();
        assert_eq!(read_to(&mut client, "\r\n\r\n").await, refusal);
        client.write_all(request.as_bytes()).await.unwrap();
    }
    let mut second = accept(&replica).await;
    read_to(&mut second, "body").await;
    second.write_all(OK.as_bytes()).await.unwrap();
    assert_eq!(read_to(&mut client, "ok").await, OK);
}

#[tokio::test]
async fn a_response_without_a_length_ends_with_its_connection() {
    let replica = listener().await;
    let (_proxy, front) = proxy(&[address(&replica)]).await;
    let mut client = connect(&front, "GET /v1 HTTP/1.0\r\n\r\n").await;
    let mut at_replica = accept(&replica).await;
    let request = read_to(&mut at_replica, "\r\n\r\n").await;
    assert!(request.starts_with("GET /v1 HTTP/1.0\r\n"), "{request}");
    at_replica.write_all(b"HTTP/1.0 200 OK\r\n\r\nsome ").await.unwrap();
    at_replica.write_all(b"text").await.unwrap();
    drop(at_replica);
    let response = read_all(&mut client).await;
    assert_eq!(response, "HTTP/1.0 200 OK\r\nconnection: close\r\n\r\nsome text");
}

#[tokio::test]
async fn requests_without_a_replica_are_answered_by_the_proxy() {
    let unreachable = listener().await;
    let replicas = [address(&unreachable)];
    drop(unreachable);
    let (proxy, front) = proxy(&replicas).await;
    for (request, status) in [
        ("GET /v1 HTTP/1.1\r\nhost: h\r\n\r\n", "503 Service Unavailable\r\n"),
        ("GET /other HTTP/1.1\r\nhost: h\r\n\r\n", "404 Not Found\r\n"),
        ("not HTTP at all\r\n\r\n", "400 Bad Request\r\n"),
    ] {
        let response = read_to(&mut connect(&front, request).await, "}").await;
        assert!(response.starts_with(&format!("HTTP/1.1 {status}")), "{response}");
        assert_eq!(response.contains("retry-after: 1\r\n"), status.starts_with("503"));
    }
    let mut open = connect(&front, "GET /other HTTP/1.1\r\nhost: h\r\n\r\n").await;
    read_to(&mut open, "}").await;
    soon("the stop", proxy.stop()).await;
    assert_eq!(read_all(&mut open).await, "", "an idle connection is closed");
    assert!(TcpStream::connect(&front).await.is_err());
}

#[tokio::test]
async fn a_replica_is_ready_as_its_admin_port_says_over_one_connection() {
    let admin = listener().await;
    let upstream = Upstream::new("replica".into(), String::new(), address(&admin));
    let upstream = Arc::new(upstream);
    let _watch = tokio::spawn(Arc::clone(&upstream).watch_readiness());
    let becomes = async |ready| {
        while upstream.is_ready() != ready {
            sleep(Duration::from_millis(5)).await;
        }
    };
    let mut connection = accept(&admin).await;
    for (status, ready) in [(503, false), (200, true), (503, false)] {
        read_to(&mut connection, "\r\n\r\n").await;
        let response = format!("HTTP/1.1 {status} x\r\ncontent-length: 2\r\n\r\n{{}}");
        connection.write_all(response.as_bytes()).await.unwrap();
        soon("the readiness", becomes(ready)).await;
    }
    // A restarted replica has closed the connection.
    drop(connection);
    let mut connection = accept(&admin).await;
    read_to(&mut connection, "\r\n\r\n").await;
    connection.write_all(OK.as_bytes()).await.unwrap();
    soon("the readiness", becomes(true)).await;
    drop((connection, admin));
    soon("the end of the readiness", becomes(false)).await;
}

#[tokio::test]
async fn connections_without_a_request_end_in_time() {
    let (short, long) = (Duration::from_millis(200), Duration::from_secs(1));
    let limits = Limits { head: short, idle: long, connections: 100 };
    let (_proxy, front) = limited_proxy(&[], limits).await;
    let begun = Instant::now();
    for half in ["", "GET /other HTTP/1.1\r\nhost: h\r\n"] {
        assert_eq!(read_all(&mut connect(&front, half).await).await, "", "{half:?}");
    }
    assert!(begun.elapsed() < long, "{:?}", begun.elapsed());
    let mut idle = connect(&front, "GET /other HTTP/1.1\r\nhost: h\r\n\r\n").await;
    read_to(&mut idle, "}").await;
    let begun = Instant::now();
    // The head of a second request has the short limit again.
    let mut half = connect(&front, "GET /other HTTP/1.1\r\nhost: h\r\n\r\n").await;
    read_to(&mut half, "}").await;
    half.write_all(b"GET").await.unwrap();
    assert_eq!(read_all(&mut half).await, "");
    assert!(begun.elapsed() < long, "{:?}", begun.elapsed());
    assert_eq!(read_all(&mut idle).await, "");
    assert!(begun.elapsed() >= long - short, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn further_connections_wait_until_one_ends() {
    let limits = Limits { head: LIMIT, idle: LIMIT, connections: 2 };
    let (_proxy, front) = limited_proxy(&[], limits).await;
    let get = "GET /other HTTP/1.1\r\nhost: h\r\n\r\n";
    let mut open = [connect(&front, get).await, connect(&front, get).await];
    for client in &mut open {
        read_to(client, "}").await;
    }
    let mut third = connect(&front, get).await;
    let waits = timeout(Duration::from_millis(100), third.read_u8()).await;
    assert!(waits.is_err(), "{waits:?}");
    drop(open);
    read_to(&mut third, "}").await;
}
