//! Invalid requests: each is rejected with a precise problem and changes
//! nothing.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Client, Response, Stack, client::new_key};

fn assert_problem(
    response: &Response,
    status: u16,
    problem: &str,
    field: Option<&str>,
    what: &str,
) {
    assert_eq!((response.status, response.problem()), (status, problem), "{what}: {response:?}");
    assert_eq!(response.body["field"].as_str(), field, "{what}: {response:?}");
    assert_eq!(response.header("content-type"), Some("application/problem+json"), "{what}");
    assert_eq!(response.body["status"], status, "{what}");
    assert_eq!(response.text("traceId").len(), 32, "{what}: {response:?}");
    let error = &response.body["errors"][0];
    let place = match field {
        None => json!(null),
        Some("Idempotency-Key") => json!({ "header": field, "detail": response.text("detail") }),
        Some(field) => {
            let parameter = error["parameter"].is_string();
            let place = if parameter { field.to_owned() } else { format!("#/{field}") };
            let name = if parameter { "parameter" } else { "pointer" };
            json!({ name: place, "detail": response.text("detail") })
        }
    };
    assert_eq!(*error, place, "{what}: {response:?}");
    for text in ["title", "detail"] {
        assert!(!response.text(text).is_empty(), "{what}: no {text}");
    }
}

async fn records_of(client: &Client, account: &str) -> usize {
    let page = client.get(&format!("/v1/accounts/{account}/records")).await;
    page.body["items"].as_array().unwrap().len()
}

async fn post_raw(client: &Client, account: &str, content_type: &str, body: Vec<u8>) -> Response {
    let path = format!("/v1/accounts/{account}/deposits");
    let key = new_key();
    let headers = [("content-type", content_type), ("idempotency-key", key.as_str())];
    client.send(Method::POST, &path, &headers, Some(body)).await.unwrap()
}

#[tokio::test]
async fn an_invalid_body_is_rejected() {
    let client = Client::teller(Stack::shared().await);
    let account = client.open_account("KRW").await;
    let deep = format!("{{\"amount\":{}1{}}}", "[".repeat(64), "]".repeat(64));
    let long = format!("{{\"amount\":\"{}\"}}", "1".repeat(1024 * 1024));
    for (what, body, status, problem, field) in [
        ("empty", "", 400, "malformed-json", None),
        ("not JSON", "amount=1", 400, "malformed-json", None),
        ("truncated", "{\"amount\":\"1", 400, "malformed-json", None),
        ("two values", "{\"amount\":\"1\"}{}", 400, "malformed-json", None),
        (
            "duplicate",
            "{\"amount\":\"1\",\"amount\":\"2\"}",
            400,
            "duplicate-field",
            Some("amount"),
        ),
        ("number", "{\"amount\":10000}", 422, "invalid-field", Some("amount")),
        ("1e400", "{\"amount\":1e400}", 400, "malformed-json", None),
        ("null", "{\"amount\":null}", 422, "invalid-field", Some("amount")),
        ("true", "{\"amount\":true}", 422, "invalid-field", Some("amount")),
        ("object", "{\"amount\":{\"value\":\"1\"}}", 422, "invalid-field", Some("amount")),
        ("missing", "{}", 422, "invalid-field", Some("amount")),
        ("unknown", "{\"amount\":\"1\",\"amuont\":\"2\"}", 422, "invalid-field", Some("amuont")),
        ("array", "[\"1\"]", 422, "invalid-field", None),
        ("string", "\"1\"", 422, "invalid-field", None),
        ("64 deep", &deep, 422, "invalid-field", Some("amount")),
        ("1 MiB", &long, 413, "body-too-large", None),
    ] {
        let response = post_raw(&client, &account, "application/json", body.into()).await;
        assert_problem(&response, status, problem, field, what);
    }
    let latin =
        post_raw(&client, &account, "application/json", b"{\"amount\":\"\xe9\"}".into()).await;
    assert_problem(&latin, 400, "malformed-json", None, "not UTF-8");
    let mark = b"\xef\xbb\xbf{\"amount\":\"1\"}".to_vec();
    let mark = post_raw(&client, &account, "application/json", mark).await;
    assert_problem(&mark, 400, "malformed-json", None, "byte order mark");
    assert!(mark.text("detail").contains("byte order mark"), "{mark:?}");
    let path = format!("/v1/accounts/{account}/deposits");
    let gzip = [
        ("content-type", "application/json"),
        ("content-encoding", "gzip"),
        ("idempotency-key", "gzip"),
    ];
    let gzip = client.send(Method::POST, &path, &gzip, Some(b"\x1f\x8b".into())).await.unwrap();
    assert_problem(&gzip, 415, "unsupported-media-type", None, "gzip");
    assert!(gzip.text("detail").contains("Content-Encoding"), "{gzip:?}");
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""]
    {
        let response =
            post_raw(&client, &account, content_type, b"{\"amount\":\"1\"}".into()).await;
        assert_problem(&response, 415, "unsupported-media-type", None, content_type);
    }
    assert_eq!(records_of(&client, &account).await, 0);
    let charset = "application/json; charset=utf-8";
    let good = post_raw(&client, &account, charset, b" {\"amount\":\"1\"} ".into()).await;
    assert_eq!(good.status, 202, "{good:?}");
}

#[tokio::test]
async fn a_client_that_sends_an_oversized_body_before_reading_receives_the_413() {
    let stack = Stack::shared().await;
    let client = Client::teller(stack);
    let account = client.open_account("KRW").await;
    let file = stack.file();
    let replica = file.processes.iter().find_map(|process| process.http.as_deref()).unwrap();
    let address = replica.strip_prefix("http://").unwrap();
    let mut socket = TcpStream::connect(address).unwrap();
    let body = "1".repeat(7 * 1024 * 1024);
    let head = format!(
        "POST /v1/accounts/{account}/deposits HTTP/1.1\r\nhost: {address}\r\n\
         authorization: Bearer {}\r\nidempotency-key: large\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        file.tokens.teller,
        body.len(),
    );
    socket.write_all(head.as_bytes()).unwrap();
    socket.write_all(body.as_bytes()).unwrap();
    let mut status = [0; 12];
    socket.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 413");
}

#[tokio::test]
async fn an_invalid_amount_is_rejected_with_its_field() {
    let client = Client::teller(Stack::shared().await);
    let won = client.open_account("KRW").await;
    let dollars = client.open_account("USD").await;
    for (account, amount) in [
        (&won, "1e400"),
        (&won, "1E3"),
        (&won, "NaN"),
        (&won, "Infinity"),
        (&won, "-0"),
        (&won, "0"),
        (&won, "0.00"),
        (&won, "-1"),
        (&won, "+1"),
        (&won, "1.5"),
        (&won, ""),
        (&won, " 1"),
        (&won, "1,000"),
        (&won, "0x10"),
        (&won, "01"),
        (&won, "\u{0661}"),
        (&won, "1\u{0}"),
        (&won, "1000000000000000000"),
        (&won, "123456789012345678901234567890"),
        (&dollars, "0.001"),
        (&dollars, "1."),
        (&dollars, ".5"),
    ] {
        for resource in ["deposits", "withdrawals"] {
            let response = client.movement(resource, account, amount, &new_key(), None).await;
            assert_problem(&response, 422, "invalid-field", Some("amount"), amount);
        }
    }
    assert_eq!(records_of(&client, &won).await + records_of(&client, &dollars).await, 0);
}

#[tokio::test]
async fn an_asserted_currency_must_be_the_accounts() {
    let client = Client::teller(Stack::shared().await);
    let account = client.open_account("KRW").await;
    let request = async |resource: &str, key: &str, body: Value| {
        let path = format!("/v1/accounts/{account}/{resource}");
        client.post(&path, &[("idempotency-key", key), ("prefer", "wait=20")], &body).await
    };
    for resource in ["deposits", "withdrawals"] {
        // With an amount that only the other currency has, too.
        for (currency, amount) in
            [("USD", "1"), ("USD", "1.50"), ("krw", "1"), ("", "1"), ("KRW ", "1"), ("XXX", "1")]
        {
            let body = json!({ "amount": amount, "currency": currency });
            let response = request(resource, &new_key(), body).await;
            assert_problem(&response, 422, "invalid-field", Some("currency"), currency);
        }
        let number = request(resource, &new_key(), json!({ "amount": "1", "currency": 410 })).await;
        assert_problem(&number, 422, "invalid-field", Some("currency"), "number");
    }
    let item = json!({ "accountId": account, "type": "DEPOSIT", "amount": "1", "currency": "USD",
                       "idempotencyKey": new_key() });
    let batch = client.post("/v1/batches", &[], &json!({ "items": [item] })).await;
    let refused = &batch.body["items"][0];
    assert_eq!(
        (&refused["status"], &refused["problem"]["field"]),
        (&json!(422), &json!("currency"))
    );
    assert_eq!(records_of(&client, &account).await, 0);
    // The assertion is no part of the request: with and without it, it is the same one.
    let key = new_key();
    let with = request("deposits", &key, json!({ "amount": "1", "currency": "KRW" })).await;
    assert_eq!((with.status, with.text("status")), (200, "SUCCESS"), "{with:?}");
    let without = request("deposits", &key, json!({ "amount": "1" })).await;
    assert_eq!((without.status, &without.body), (200, &with.body));
    assert_eq!(without.header("idempotent-replayed"), Some("true"));
}

#[tokio::test]
async fn exactly_one_valid_idempotency_key_is_required() {
    let client = Client::teller(Stack::shared().await);
    let account = client.open_account("KRW").await;
    let path = format!("/v1/accounts/{account}/deposits");
    let amount = json!({ "amount": "1" });
    let missing = client.post(&path, &[], &amount).await;
    assert_problem(&missing, 400, "idempotency-key-missing", Some("Idempotency-Key"), "missing");
    let long = "k".repeat(256);
    for key in ["", "\"\"", "a b", "\"a", "a\u{e9}", &long] {
        let response = client.movement("deposits", &account, "1", key, None).await;
        assert_problem(&response, 400, "idempotency-key-malformed", Some("Idempotency-Key"), key);
    }
    let two = [("idempotency-key", "a"), ("idempotency-key", "b")];
    let twice = client.post(&path, &two, &amount).await;
    assert_problem(&twice, 400, "idempotency-key-malformed", Some("Idempotency-Key"), "twice");
    for joined in ["k,k", "k, k", "a,b", "\"k\",\"k\""] {
        let response = client.movement("deposits", &account, "1", joined, None).await;
        let (problem, field) = ("idempotency-key-malformed", Some("Idempotency-Key"));
        assert_problem(&response, 400, problem, field, joined);
    }
    assert_eq!(records_of(&client, &account).await, 0);
    let longest = client.movement("deposits", &account, "1", &"k".repeat(255), None).await;
    assert_eq!(longest.status, 202);
}

#[tokio::test]
async fn malformed_and_unknown_ids_are_rejected() {
    let client = Client::teller(Stack::shared().await);
    for id in ["1", "not-an-id", "0199d4a27c1e7b7a9a553f1d8f6f2c11", "%00", "%ff", "..%2f..%2fetc"]
    {
        for path in [format!("/v1/accounts/{id}"), format!("/v1/records/{id}")] {
            assert_problem(&client.get(&path).await, 400, "malformed-id", None, &path);
        }
        let deposit = client.movement("deposits", id, "1", &new_key(), None).await;
        assert_problem(&deposit, 400, "malformed-id", None, id);
    }
    // RFC 9562, section 4: an id is read in any case, and written in lowercase.
    let own = client.open_account("KRW").await;
    let capitals = client.account(&own.to_uppercase()).await;
    assert_eq!((capitals.status, capitals.text("accountId")), (200, own.as_str()), "{capitals:?}");
    let deposit = client.movement("deposits", &own.to_uppercase(), "1", &new_key(), Some(10)).await;
    assert_eq!(deposit.text("accountId"), own, "{deposit:?}");
    let record = client.record(&deposit.text("recordId").to_uppercase()).await;
    assert_eq!(record.text("recordId"), deposit.text("recordId"), "{record:?}");
    let unknown = new_key();
    let account = client.account(&unknown).await;
    assert_problem(&account, 404, "account-not-found", None, "account");
    assert_problem(&client.record(&unknown).await, 404, "record-not-found", None, "record");
    let deposit = client.movement("deposits", &unknown, "1", &new_key(), None).await;
    assert_problem(&deposit, 404, "account-not-found", None, "deposit");
}

#[tokio::test]
async fn an_account_needs_an_iso_4217_currency() {
    let client = Client::teller(Stack::shared().await);
    for currency in ["", "krw", "KR", "WON", "XXX", "USDT", "K\u{0}W"] {
        let response = client.post("/v1/accounts", &[], &json!({ "currency": currency })).await;
        assert_problem(&response, 422, "invalid-field", Some("currency"), currency);
    }
    let number = client.post("/v1/accounts", &[], &json!({ "currency": 410 })).await;
    assert_problem(&number, 422, "invalid-field", Some("currency"), "number");
    let extra = json!({ "currency": "KRW", "balance": "1000000" });
    let extra = client.post("/v1/accounts", &[], &extra).await;
    assert_problem(&extra, 422, "invalid-field", Some("balance"), "an unknown field");
}

#[tokio::test]
async fn invalid_page_limits_and_cursors_are_rejected() {
    let client = Client::teller(Stack::shared().await);
    let account = client.open_account("KRW").await;
    for (query, status, problem, field) in [
        ("limit=0", 422, "invalid-field", "limit"),
        ("limit=101", 422, "invalid-field", "limit"),
        ("limit=-1", 422, "invalid-field", "limit"),
        ("limit=many", 422, "invalid-field", "limit"),
        ("cursor=x", 400, "invalid-cursor", "cursor"),
        ("cursor=AAAA", 400, "invalid-cursor", "cursor"),
        ("limt=3", 400, "invalid-query", "limt"),
        ("limit=3&limit=4", 400, "invalid-query", "limit"),
    ] {
        let response = client.get(&format!("/v1/accounts/{account}/records?{query}")).await;
        assert_problem(&response, status, problem, Some(field), query);
        assert_eq!(response.body["errors"][0]["parameter"], field, "{response:?}");
    }
}

#[tokio::test]
async fn a_problem_has_the_trace_of_its_request() {
    let client = Client::teller(Stack::shared().await);
    let trace = format!("{:032x}", uuid::Uuid::now_v7().as_u128());
    let traceparent = format!("00-{trace}-00f067aa0ba902b7-00");
    let headers = [("traceparent", traceparent.as_str())];
    for (method, path, status) in [
        (Method::GET, "/v2/accounts", 404),
        (Method::DELETE, "/v1/accounts", 405),
        (Method::POST, "/v1/batches", 415),
        (Method::GET, "/v1/reports/x", 400),
    ] {
        let response = client.send(method, path, &headers, None).await.unwrap();
        assert_eq!((response.status, response.text("traceId")), (status, &*trace), "{path}");
    }
    let unknown = [("authorization", "Bearer x"), headers[0]];
    let unknown = client.send(Method::GET, "/v1/accounts", &unknown, None).await.unwrap();
    assert_eq!((unknown.status, unknown.text("traceId")), (401, &*trace), "{unknown:?}");
    assert_eq!(unknown.header("www-authenticate"), Some("Bearer"));
}

#[tokio::test]
async fn an_unknown_path_or_method_is_answered_with_a_problem() {
    let client = Client::teller(Stack::shared().await);
    assert_problem(&client.get("/v2/accounts").await, 404, "no-such-path", None, "path");
    let deleted = client.send(Method::DELETE, "/v1/accounts", &[], None).await.unwrap();
    assert_problem(&deleted, 405, "method-not-allowed", None, "method");
    assert_eq!(deleted.header("allow"), Some("POST,GET,HEAD"));
    let detail = deleted.text("detail");
    assert!(detail.contains("/v1/accounts") && detail.contains("DELETE"), "{detail}");
}

/// The status, the problem and the content type of the response to raw bytes.
fn raw(address: &str, request: &[u8]) -> (u16, String, String) {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    // The service may answer and close before it has read everything.
    let _ = socket.write_all(request);
    let mut response = Vec::new();
    let _ = socket.read_to_end(&mut response);
    let response = String::from_utf8_lossy(&response).into_owned();
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or((&response, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let problem = body["type"].as_str().unwrap_or_default().to_owned();
    (status.unwrap_or_default(), problem, head.to_lowercase())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalid_head_gets_a_problem() {
    let stack = Stack::shared().await;
    let file = stack.file();
    let get =
        |rest: &str| format!("GET /v1/accounts/1 HTTP/1.1\r\n{rest}connection: close\r\n\r\n");
    let long = "x".repeat(20_000);
    let longer = "x".repeat(100_000);
    let cases = [
        ("no Host", get(""), 400, "malformed-request"),
        ("two Hosts", get("host: a\r\nhost: b\r\n"), 400, "malformed-request"),
        ("not HTTP", "hello\r\n\r\n".to_owned(), 400, "malformed-request"),
        ("no header", get("no header\r\n"), 400, "malformed-request"),
        (
            "long path",
            get("host: a\r\n").replacen("/1 ", &format!("/{long} "), 1),
            414,
            "uri-too-long",
        ),
        (
            "longer path",
            get("host: a\r\n").replacen("/1 ", &format!("/{} ", "x".repeat(70_000)), 1),
            431,
            "head-too-large",
        ),
        ("long header", get(&format!("host: a\r\nx: {long}\r\n")), 431, "head-too-large"),
        ("longer header", get(&format!("host: a\r\nx: {longer}\r\n")), 431, "head-too-large"),
        (
            "101 headers",
            get(&format!("host: a\r\n{}", "x: y\r\n".repeat(101))),
            431,
            "head-too-large",
        ),
    ];
    for name in ["account-service-0", "report-service-0"] {
        let process = file.processes.iter().find(|process| process.name == name).unwrap();
        for url in [&process.http, &process.admin] {
            let address = url.as_deref().unwrap().trim_start_matches("http://");
            for (what, request, status, problem) in &cases {
                let answer = raw(address, request.as_bytes());
                let expected = (*status, format!("/problems/{problem}"));
                assert_eq!((answer.0, answer.1), expected, "{name} {address} {what}: {}", answer.2);
                assert!(answer.2.contains("application/problem+json"), "{what}: {}", answer.2);
            }
        }
    }
}
