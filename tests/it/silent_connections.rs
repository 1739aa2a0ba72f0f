//! Connections without a complete request: silent, half-spoken and dripping. They neither stay
//! nor keep others out, on both ports and for both protocols.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use devstack::Process;
use serde_json::json;
use tests::{
    Client, Stack, eventually, memory,
    process::{Paused, passbook},
    scale::size,
    stack::initialized_folder,
    wait::eventually_now,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::{Child, Command},
    task::JoinSet,
};

/// Connections to each port of the services that have few clients. The account-service gets more
/// than may wait for a head: 512 and 256 on each port.
const FEW: usize = 50;
/// The time limit of a head, and the interval of the checks.
const CLOSED_WITHIN: Duration = Duration::from_secs(25);
/// Without the bounds, a request waits until the connections have reached their time limit.
const SERVED_WITHIN: Duration = Duration::from_secs(5);
/// The reason of a condition whose check of the database took too long.
const NO_ANSWER: &str = "no answer within 2s";
const RETRY_AFTER: Duration = Duration::from_millis(200);

const SERVICE: &str = "account-service-0";
/// More than may wait for a head, and more than the kernel queues for one socket.
const BURST: usize = 6000;
/// Connections that begin a large head after a response.
const KEPT_OPEN: usize = 3000;
/// Without the bound, they take more than 32 KiB each.
const MAX_GROWTH: u64 = 48 * 1024;

const FIRST_BYTES: [&[u8]; 5] = [
    b"",
    b"PRI * HTTP/2.0\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nhost: a\r\n",
    // The preface, SETTINGS, and HEADERS without the end of the headers.
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x01\x01\0\0\0\0\x01\x82",
];

/// Sends the first bytes. A connection in two goes on with a byte of a header now and then.
/// Ends with the connection.
async fn half_spoken(mut socket: TcpStream, index: usize) {
    let first = FIRST_BYTES[index % FIRST_BYTES.len()];
    if socket.write_all(first).await.is_err() {
        return;
    }
    let drips = first.starts_with(b"GET") && index.is_multiple_of(2);
    let mut received = [0; 256];
    loop {
        tokio::select! {
            read = socket.read(&mut received) => if matches!(read, Ok(0) | Err(_)) { return },
            () = tokio::time::sleep(Duration::from_millis(500)), if drips => {
                if socket.write_all(b"x").await.is_err() { return }
            }
        }
    }
}

fn process(stack: &Stack) -> Process {
    stack.file().processes.into_iter().find(|process| process.name == SERVICE).unwrap()
}

fn address(url: &Option<String>) -> String {
    url.as_deref().unwrap().trim_start_matches("http://").to_owned()
}

/// An address, and the path of a request that it answers with 200.
struct Listening {
    address: String,
    path: &'static str,
    /// Connections to open.
    number: usize,
}

/// The API and the admin port of each service, a renderer, and the development proxy.
fn listening(stack: &Stack, renderer: &str) -> Vec<Listening> {
    let file = stack.file();
    let mut all = vec![
        Listening { address: renderer.to_owned(), path: "/livez", number: FEW },
        Listening { address: address(&Some(file.api)), path: "/v1/accounts", number: FEW },
    ];
    for process in &file.processes {
        let (path, number) = match process.name.as_str() {
            SERVICE => ("/v1/accounts", size(20_000, 1600)),
            "report-service-0" => ("/v1/reports", FEW),
            "webhook-service-0" => ("/v1/webhook-endpoints", FEW),
            _ => continue,
        };
        all.push(Listening { address: address(&process.http), path, number });
        all.push(Listening { address: address(&process.admin), path: "/readyz", number });
    }
    assert_eq!(all.len(), 8);
    all
}

/// A renderer as an HTTP function, and its address.
fn renderer() -> (Child, String) {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let mut renderer = Command::new(passbook().with_file_name("report-renderer"));
    (renderer.args(["--listen", &address]).kill_on_drop(true).spawn().unwrap(), address)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_and_dripping_connections_are_closed_and_others_are_served() {
    let mut arguments = vec!["--port", "0", "--report-replicas", "1", "--webhook-replicas", "1"];
    arguments.extend(["--account-replicas", "1", "--transaction-replicas", "1"]);
    let stack = Stack::start_in(&initialized_folder("silent").await, &arguments).await;
    let (_renderer, renderer) = renderer();
    let all = listening(&stack, &renderer);
    eventually("the renderer listens", SERVED_WITHIN, || async {
        TcpStream::connect(&renderer).await.ok()
    })
    .await;
    let mut open = JoinSet::new();
    let began = Instant::now();
    for Listening { address, number, .. } in &all {
        for index in 0..*number {
            // One after the other: a full queue of the kernel delays a connection by seconds.
            let socket = TcpStream::connect(address).await.unwrap();
            open.spawn(half_spoken(socket, index));
        }
    }
    let begun = Instant::now();
    // The excess is closed at once, before the time limit of a head.
    eventually_now("connections are closed for room", Duration::from_secs(5), || {
        while open.try_join_next().is_some() {}
        (open.len() <= 2 * (512 + 256) + 6 * FEW).then_some(())
    })
    .await;
    println!("opened and closed for room within {:.1?}", began.elapsed());
    let (client, token) = (reqwest::Client::new(), stack.file().tokens.teller);
    for Listening { address, path, .. } in &all {
        let asked = Instant::now();
        let request = client.get(format!("http://{address}{path}")).bearer_auth(&token);
        let mut response = request.try_clone().unwrap().send().await.unwrap();
        // A machine that stands still for two seconds makes a replica unready until the next check.
        while *path == "/readyz" && response.status() == 503 && asked.elapsed() < SERVED_WITHIN {
            let body = response.text().await.unwrap();
            assert!(body.contains(NO_ANSWER), "{address}{path}: {body}");
            tokio::time::sleep(RETRY_AFTER).await;
            response = request.try_clone().unwrap().send().await.unwrap();
        }
        assert!(response.status().is_success(), "{address}{path}: {response:?}");
        assert!(asked.elapsed() < SERVED_WITHIN, "{address}{path}: {:?}", asked.elapsed());
    }
    let asked = Instant::now();
    Client::teller_at(&stack, SERVICE).open_account("KRW").await;
    assert!(asked.elapsed() < SERVED_WITHIN, "{:?}", asked.elapsed());
    eventually_now("all are closed", CLOSED_WITHIN, || {
        while open.try_join_next().is_some() {}
        open.is_empty().then_some(())
    })
    .await;
    println!("all were closed after {:.1?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_arrive_all_at_once_are_all_answered() {
    let stack = Stack::start("burst").await;
    let process = process(&stack);
    let pid = process.pid;
    let paused = Paused::new([pid]);
    let mut sockets = Vec::new();
    for _ in 0..BURST {
        let connect = TcpStream::connect(address(&process.http));
        let connected = tokio::time::timeout(SERVED_WITHIN, connect).await;
        let mut socket = connected.expect("a queue has room").unwrap();
        socket.write_all(b"GET /nothing HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        sockets.push(socket);
    }
    drop(paused);
    let mut unanswered = 0;
    for mut socket in sockets {
        let mut received = [0; 256];
        let read = tokio::time::timeout(CLOSED_WITHIN, socket.read(&mut received)).await.unwrap();
        let is_answered = read.is_ok_and(|length| received[..length].starts_with(b"HTTP/1.1 404"));
        unanswered += u32::from(!is_answered);
    }
    assert_eq!(unanswered, 0, "of {BURST}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_that_begin_at_once_on_open_connections_take_little_memory() {
    let stack = Stack::start("head-memory").await;
    let process = process(&stack);
    let api = address(&process.http);
    let mut sockets = Vec::new();
    for _ in 0..KEPT_OPEN {
        let mut socket = TcpStream::connect(&api).await.unwrap();
        socket.write_all(b"GET /nothing HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        assert!(socket.read(&mut [0; 4096]).await.unwrap() > 0);
        sockets.push(socket);
    }
    let before = memory::resident(process.pid).unwrap();
    let mut head = b"GET /nothing HTTP/1.1\r\nhost: a\r\na: ".to_vec();
    head.resize(30_000, b'a');
    for socket in &sockets {
        // The socket of a connection that is closed already refuses.
        let _ = socket.try_write(&head);
    }
    let client = Client::teller_at(&stack, SERVICE);
    let peak = Cell::new(before);
    let measure = || peak.set(peak.get().max(memory::resident(process.pid).unwrap()));
    for _ in 0..20 {
        measure();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // 90 MB of heads keep a debug build busy for seconds. Until then it may answer 503.
    eventually("a request is served", CLOSED_WITHIN, || async {
        let won = json!({ "currency": "KRW" });
        let response = client.post("/v1/accounts", &[], &won).await;
        measure();
        (response.status == 201).then_some(())
    })
    .await;
    let peak = peak.get();
    println!("{before} KiB before, {peak} KiB at most");
    assert!(peak < before + MAX_GROWTH, "{before} KiB grew to {peak} KiB");
}
