//! Requests of an attacker: odd paths, requests inside of requests, and texts that are made to be
//! understood as SQL, as a header or as a line of a log.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use contract::{Scope, Scopes};
use devstack::Secrets;
use reqwest::Method;
use serde_json::{Value, json};
use tests::{Client, Stack, broker, client::new_key};

const SOON: Duration = Duration::from_secs(15);

/// All bytes that a server answers until it closes the connection, or is silent for 2 s after so
/// many answers. A busy machine takes longer for these.
fn exchange(address: &str, request: &str, answers: usize) -> String {
    let mut socket = TcpStream::connect(address).unwrap();
    // The server may answer and close before it has read everything.
    let _ = socket.write_all(request.as_bytes());
    let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let is_answered = statuses(&text).len() >= answers;
        let patience = if is_answered { Duration::from_secs(2) } else { SOON };
        socket.set_read_timeout(Some(patience)).unwrap();
        match socket.read(&mut part) {
            Ok(length @ 1..) => bytes.extend_from_slice(&part[..length]),
            _ => return text,
        }
    }
}

fn statuses(answer: &str) -> Vec<&str> {
    answer
        .split("HTTP/1.1 ")
        .skip(1)
        .map(|response| response.split(' ').next().unwrap_or_default())
        .collect()
}

/// The addresses of a replica and of the development proxy.
fn addresses(stack: &Stack) -> [String; 2] {
    let file = stack.file();
    let replica = file.processes.iter().find(|process| process.name == "account-service-0");
    [replica.unwrap().http.clone().unwrap(), file.api]
        .map(|url| url.trim_start_matches("http://").to_owned())
}

/// A token of a customer with every scope that a customer may have.
fn customer(stack: &Stack, name: &str) -> String {
    let scopes: Scopes =
        Scope::ALL.into_iter().filter(|scope| *scope != Scope::AccountsAny).collect();
    Secrets::read(&stack.dir).unwrap().token(name, scopes, time::Duration::hours(1)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_spelling_of_a_path_leads_to_what_is_anothers() {
    let stack = Stack::shared().await;
    let theirs = Client::customer(stack, &new_key()).open_account("KRW").await;
    let name = new_key();
    let own = Client::customer(stack, &name).open_account("KRW").await;
    let token = customer(stack, &name);
    let paths = [
        format!("/v1/accounts/{theirs}"),
        format!("/v1/accounts/{own}/../{theirs}"),
        format!("/v1/accounts/{own}/..%2f{theirs}"),
        format!("/v1/accounts/{own}%2f..%2f{theirs}"),
        format!("/v1/accounts/{own}/%2e%2e/{theirs}"),
        format!("/v1/accounts/./{theirs}"),
        format!("//v1/accounts/{theirs}"),
        format!("/v1//accounts/{theirs}"),
        format!("/v1/accounts//{theirs}"),
        format!("/v1/accounts/{theirs}/"),
        format!("/v1/accounts/{theirs};{own}"),
        format!("/v1/accounts/{theirs}%00"),
        format!("/v1/accounts/{theirs}%20"),
        format!("/v1/accounts/{own}?/../{theirs}/records"),
        format!("/v1/Accounts/{theirs}"),
        format!("/v1/accounts/{theirs}/records"),
        format!("/v1/accounts/{theirs}/records%3flimit=1"),
        format!("/v1/accounts/%c0%ae%c0%ae/{theirs}"),
        format!("http://internal/v1/accounts/{theirs}"),
        format!("\\v1\\accounts\\{theirs}"),
    ];
    for address in addresses(stack) {
        for path in &paths {
            let request = format!(
                "GET {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n\
                 connection: close\r\n\r\n"
            );
            let answer = exchange(&address, &request, 1);
            let status = answer.split(' ').nth(1).unwrap_or_default();
            // Only the path that names the caller's own account, with a strange query, is found.
            let expected: &[&str] =
                if path.contains('?') { &["200", "400"] } else { &["400", "404"] };
            assert!(expected.contains(&status), "{address} {path}: {answer}");
            let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
            assert!(!body.contains("\"balance\"") || !body.contains(&theirs), "{path}: {answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_hides_another() {
    let stack = Stack::shared().await;
    let name = new_key();
    let client = Client::merchant(stack, &name);
    let account = client.open_account("KRW").await;
    let token = customer(stack, &name);
    let post = |key: &str, framing: &str| {
        format!(
            "POST /v1/accounts/{account}/deposits HTTP/1.1\r\nhost: a\r\n\
             authorization: Bearer {token}\r\ncontent-type: application/json\r\n\
             idempotency-key: {key}\r\n{framing}\r\n\r\n"
        )
    };
    let get = |path: &str| {
        format!("GET {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n\r\n")
    };
    let own_path = format!("/v1/accounts/{account}");
    for address in addresses(stack) {
        let hidden_key = new_key();
        let body = r#"{"amount":"1"}"#;
        let hidden = post(&hidden_key, &format!("content-length: {}", body.len())) + body;
        let chunk = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
        let whole = chunk.len() + hidden.len();
        // Each hides a second request from whoever believes the other length.
        let cases = [
            (
                "both lengths",
                format!("content-length: {whole}\r\ntransfer-encoding: chunked"),
                &*chunk,
            ),
            (
                "both lengths, the other order",
                format!("transfer-encoding: chunked\r\ncontent-length: {whole}"),
                &*chunk,
            ),
            (
                "two lengths",
                format!(
                    "content-length: {}\r\ncontent-length: {}",
                    body.len(),
                    body.len() + hidden.len()
                ),
                body,
            ),
            (
                "a list of lengths",
                format!("content-length: {}, {}", body.len(), body.len() + hidden.len()),
                body,
            ),
            ("a signed length", format!("content-length: +{}", body.len()), body),
            ("an unknown coding", "transfer-encoding: xchunked".to_owned(), &*chunk),
            ("chunked, then another", "transfer-encoding: chunked, identity".to_owned(), &*chunk),
            ("a blank before the colon", "transfer-encoding : chunked".to_owned(), &*chunk),
            (
                "a folded line",
                format!("content-length: {}\r\n transfer-encoding: chunked", body.len()),
                body,
            ),
            ("chunked in HTTP/1.0", "transfer-encoding: chunked".to_owned(), &*chunk),
        ];
        // Without a contradiction, the second request is one: both are answered.
        let framing = format!("content-length: {}", body.len());
        let open = get(&own_path) + &post(&new_key(), &framing) + body;
        assert_eq!(statuses(&exchange(&address, &open, 2)).len(), 2, "{address}");
        for (what, framing, body) in cases {
            let key = new_key();
            let mut request = post(&key, &framing);
            if what.ends_with("1.0") {
                request = request.replacen("HTTP/1.1", "HTTP/1.0", 1);
            }
            let answer = exchange(&address, &(request + body + &hidden), 1);
            let answers = statuses(&answer);
            assert_eq!(answers.len(), 1, "{address} {what}: {answer}");
            assert!(
                ["202", "200", "400", "501"].contains(&answers[0]),
                "{address} {what}: {answer}"
            );
        }
        let page = client.get(&format!("/v1/accounts/{account}/records")).await;
        let records = page.body["items"].as_array().unwrap();
        let is_hidden = |record: &&Value| record["idempotencyKey"] == hidden_key.as_str();
        assert_eq!(records.iter().find(is_hidden), None, "{address}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_text_is_taken_for_anything_else() {
    let stack = Stack::shared().await;
    let client = Client::user(stack, &new_key(), Scope::ALL.into_iter().collect());
    let account = client.open_account("KRW").await;
    let mark = new_key();
    let texts = [
        format!("'; DROP TABLE accounts; -- {mark}"),
        format!("$1 %s %n {{}} ${{jndi:ldap://a}} {mark}"),
        format!("\u{1b}[31m{mark}\u{1b}[0m"),
        format!("a\r\n2026-01-01T00:00:00Z ERROR forged: {mark}"),
        format!("a\nidempotent-replayed: true {mark}"),
        format!("\0{mark}"),
        format!("<script>alert('{mark}')</script>"),
        format!("\u{202e}{mark}"),
    ];
    let escaped =
        |text: &str| -> String { text.bytes().map(|byte| format!("%{byte:02x}")).collect() };
    for text in &texts {
        let labels = json!({
            "amount": "1", "reference": text, "description": text, "metadata": { "note": text },
        });
        let key = new_key();
        let path = format!("/v1/accounts/{account}/deposits");
        let headers = [("idempotency-key", key.as_str()), ("prefer", "wait=10")];
        let deposit = client.post(&path, &headers, &labels).await;
        match deposit.status {
            200 | 202 => assert_eq!(deposit.text("description"), text),
            status => assert_eq!(status, 422, "{text:?}: {deposit:?}"),
        }
        let odd_body = json!({ "amount": text, "currency": text });
        let odd = client.post(&path, &[("idempotency-key", &*new_key())], &odd_body).await;
        assert!([400, 422].contains(&odd.status), "{text:?}: {odd:?}");
        let text = escaped(text);
        for path in [
            format!("/v1/accounts?ownerId={text}"),
            format!("/v1/accounts?cursor={text}"),
            format!("/v1/accounts?{text}=1"),
            format!("/v1/accounts/{text}"),
            format!("/v1/accounts/{account}/records?reference={text}"),
            format!("/v1/accounts/{account}/records?idempotencyKey={text}&from={text}"),
            format!("/v1/records/{text}"),
            format!("/v1/problems/{text}"),
            format!("/v1/reports?kind={text}"),
            format!("/v1/reports/{text}"),
            format!("/{text}"),
        ] {
            let response = client.get(&path).await;
            assert!(response.status < 500, "{path}: {response:?}");
            assert_ne!(response.header("idempotent-replayed"), Some("true"), "{path}");
            let is_html = response.header("content-type").is_some_and(|kind| kind.contains("html"));
            assert!(!is_html, "{path}: {response:?}");
        }
    }
    // A caller's name is of visible characters, or the token is refused with the reason.
    for name in ["a\nb", "a\u{1b}[31m", "a\0b"] {
        let response = Client::user(stack, name, Scopes::default()).get("/v1/accounts").await;
        assert_eq!(response.status, 401, "{response:?}");
    }
    let still = client.get(&format!("/v1/accounts/{account}")).await;
    assert_eq!(still.status, 200, "{still:?}");
    // An invalid command, whose text a worker repeats.
    let jetstream = broker::connect(stack).await;
    let command = json!({ "type": texts[3] }).to_string();
    broker::publish(&jetstream, "transaction.deposit", &new_key(), command.clone()).await;
    broker::dead_letter(&jetstream, SOON, |body| body == command.as_bytes()).await;
    let mut repeated = 0;
    for log in fs::read_dir(stack.dir.join("logs")).unwrap() {
        let log = log.unwrap().path();
        // A program of the services writes JSON: each line is one event.
        if !log.to_str().unwrap().contains("-service-") {
            continue;
        }
        for line in fs::read_to_string(&log).unwrap().lines().filter(|line| line.contains(&mark)) {
            let event = serde_json::from_str::<Value>(line);
            assert!(
                event.is_ok_and(|event| event["level"].is_string()),
                "{}: {line}",
                log.display()
            );
            assert!(!line.contains(['\u{1b}', '\0']), "{}: {line:?}", log.display());
            repeated += 1;
        }
    }
    assert!(repeated > 0, "no log has the text");
    let method = Method::from_bytes(b"G'ET").unwrap();
    let odd = client.send(method, "/v1/accounts", &[], None).await.unwrap();
    assert_eq!(odd.status, 405, "{odd:?}");
}
