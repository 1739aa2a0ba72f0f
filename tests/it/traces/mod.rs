//! Traces: one request is one trace across both services, also through
//! redeliveries and redrives.

mod collector;
mod reports;
mod webhooks;

use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use devstack::Fault;
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::{Value, json};
use tests::{
    Client, Stack, broker, client::new_key, eventually, metrics::Scrape, process::read_log,
    stack::initialized_folder,
};

use collector::{CLIENT, CONSUMER, Collector, PRODUCER, SERVER, Span};

const ACCOUNT: &str = "account-service";
const TRANSACTION: &str = "transaction-service";
const SOON: Duration = Duration::from_secs(30);

async fn start(name: &str, endpoint: &str, ratio: &str) -> Stack {
    let settings = [
        format!("OTEL_EXPORTER_OTLP_ENDPOINT={endpoint}"),
        format!("OTEL_TRACES_SAMPLER_ARG={ratio}"),
    ];
    Stack::start_under(&initialized_folder(name).await, &settings, &["--port", "0", "--faults"])
        .await
}

/// Matches the span of a request for a movement of this account.
fn movement(account: &str) -> impl Fn(&Span) -> bool {
    let path = format!("/v1/accounts/{account}/");
    move |span| span.attributes.get("url.path").is_some_and(|found| found.starts_with(&path))
}

/// Name, service, kind, and the parent's name.
type Shape = (String, &'static str, i32, String);

/// The spans of one movement, in this order.
fn expected_spans(resource: &str, kind: &str) -> [Shape; 8] {
    let server = format!("POST /v1/accounts/{{account}}/{resource}");
    let publish_command = format!("publish transaction.{kind}");
    let process_command = format!("process transaction.{kind}");
    let publish_result = format!("publish transaction.result.{kind}");
    let process_result = format!("process transaction.result.{kind}");
    [
        (server.clone(), ACCOUNT, SERVER, String::new()),
        ("INSERT transaction_records".to_owned(), ACCOUNT, CLIENT, server.clone()),
        (publish_command.clone(), ACCOUNT, PRODUCER, server),
        (process_command.clone(), TRANSACTION, CONSUMER, publish_command),
        ("INSERT transactions".to_owned(), TRANSACTION, CLIENT, process_command.clone()),
        (publish_result.clone(), TRANSACTION, PRODUCER, process_command),
        (process_result.clone(), ACCOUNT, CONSUMER, publish_result),
        ("UPDATE transaction_records".to_owned(), ACCOUNT, CLIENT, process_result),
    ]
}

fn assert_movement(spans: &[Span], resource: &str, kind: &str) {
    let name_of =
        |id: &str| spans.iter().find(|span| span.id == id).map_or("", |span| span.name.as_str());
    let found: Vec<_> = spans
        .iter()
        .map(|span| (&*span.name, &*span.service, span.kind, name_of(&span.parent)))
        .collect();
    let expected = expected_spans(resource, kind);
    let expected: Vec<_> = expected
        .iter()
        .map(|(name, service, kind, parent)| (name.as_str(), *service, *kind, parent.as_str()))
        .collect();
    assert_eq!(found, expected);
    for span in spans {
        assert!(!span.failed && span.links.is_empty() && span.begun <= span.ended, "{span:?}");
    }
}

#[tokio::test]
async fn each_movement_is_one_trace_through_both_services_and_back() {
    let collector = Collector::start().await;
    let settings = [
        format!("OTEL_EXPORTER_OTLP_ENDPOINT={}", collector.endpoint),
        "OTEL_TRACES_SAMPLER_ARG=1".to_owned(),
        // On a slow machine, a redrive would add spans of its own.
        "PASSBOOK_REDRIVE_AFTER=5m".to_owned(),
    ];
    let stack =
        Stack::start_under(&initialized_folder("traced").await, &settings, &["--port", "0"]).await;
    let client = Client::teller(&stack);
    let secret = "key-that-nobody-may-see";
    for (resource, kind) in [("deposits", "deposit"), ("withdrawals", "withdrawal")] {
        let account = client.open_account("KRW").await;
        let response = client.movement(resource, &account, "4711", secret, Some(20)).await;
        assert_eq!(response.status, 200, "{response:?}");
        let spans = collector.trace(kind, movement(&account), |spans| spans.len() >= 8).await;
        assert_movement(&spans, resource, kind);
        assert_eq!(spans[0].parent, "");
        assert_eq!(spans[0].attributes["http.response.status_code"], "200");
        for messaging in [&spans[2], &spans[3], &spans[5], &spans[6]] {
            assert_eq!(messaging.attributes["messaging.system"], "nats");
            assert_eq!(messaging.attributes["messaging.message.id"], response.text("recordId"));
        }
        for processing in [&spans[3], &spans[6]] {
            assert_eq!(processing.attributes["passbook.delivery_count"], "1");
        }
        // A publish span may end after the next span begins, because the PubAck arrives late. All other
        // spans end in order.
        assert!(spans[1].ended <= spans[2].begun && spans[4].ended <= spans[5].begun);
    }
    let token = stack.file().tokens.teller;
    for value in collector.all().iter().flat_map(|span| span.attributes.values()) {
        let leaks = [secret, &token, "4711"].iter().any(|text| value.contains(text));
        assert!(!leaks, "{value}");
    }

    // The spans of all items of a batch belong to the trace of its request.
    let account = client.open_account("KRW").await;
    let item = |key: &str| json!({"accountId": account, "type": "DEPOSIT", "amount": "1", "idempotencyKey": key});
    let headers = [("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")];
    let batch = json!({ "items": [item("one"), item("two")] });
    assert_eq!(client.post("/v1/batches", &headers, &batch).await.status, 200);
    let batch = |span: &Span| span.name == "POST /v1/batches";
    let spans = collector.trace("a batch", batch, |spans| spans.len() >= 15).await;
    let server = &spans[0];
    assert_eq!((server.parent.as_str(), server.kind), ("b7ad6b7169203331", SERVER));
    for (name, count) in [
        ("INSERT transaction_records", 2),
        ("publish transaction.deposit", 2),
        ("process transaction.result.deposit", 2),
    ] {
        assert_eq!(spans.iter().filter(|span| span.name == name).count(), count, "{name}");
    }
    let mut inserts = spans.iter().filter(|span| span.name == "INSERT transaction_records");
    assert!(inserts.all(|span| {
        span.parent == server.id && span.attributes["db.operation.batch.size"] == "2"
    }));
    assert!(spans.iter().all(|span| span.trace == "0af7651916cd43dd8448eb211c80319c"));

    // An attribute is truncated, because the buffer for spans is bounded.
    let path = format!("/long{}", "g".repeat(5000));
    assert_eq!(client.get(&path).await.status, 404);
    let long =
        |span: &Span| span.attributes.get("url.path").is_some_and(|found| path.starts_with(found));
    let spans = collector.trace("a long path", long, |spans| !spans.is_empty()).await;
    assert_eq!(spans[0].attributes["url.path"].len(), 256);
}

#[tokio::test]
async fn a_dead_letter_has_a_failed_span_and_a_log_line_in_its_trace() {
    let collector = Collector::start().await;
    let stack = start("traced-dead-letter", &collector.endpoint, "0").await;
    let trace = "1af7651916cd43dd8448eb211c80319c";
    let mut headers = HeaderMap::new();
    headers.insert("traceparent", format!("00-{trace}-b7ad6b7169203331-01"));
    let jetstream = broker::connect(&stack).await;
    let sent = jetstream.publish_with_headers("transaction.deposit", headers, "none".into()).await;
    sent.unwrap().await.unwrap();
    let in_trace = |span: &Span| span.trace == trace;
    let spans = collector.trace("its spans", in_trace, |spans| spans.len() >= 2).await;
    let named = |name: &str| spans.iter().find(|span| span.name == name).unwrap();
    let processed = named("process transaction.deposit");
    let published = named("publish dead-letter.TRANSACTION.deposit-consumer");
    assert!(processed.failed && !published.failed, "{spans:#?}");
    assert_eq!((&*processed.parent, &published.parent), ("b7ad6b7169203331", &processed.id));
    let log = |number| stack.dir.join(format!("logs/transaction-service-{number}.log"));
    let logs = [0, 1].map(|number| read_log(&log(number)));
    let lines = logs.iter().flat_map(|log| log.lines());
    let mut lines = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    // The only log line about this message is that of the dead letter.
    let line = lines.find(|line| line["span"]["trace_id"] == trace).unwrap();
    assert_eq!(line["span"]["span_id"], processed.id, "{line}");
    assert!(line["reason"].is_string(), "{line}");
}

#[tokio::test]
async fn redelivered_and_redriven_commands_stay_in_the_trace_of_their_request() {
    let collector = Collector::start().await;
    // The ratio is 0: only traces the caller has sampled are recorded.
    let stack = start("traced-again", &collector.endpoint, "0").await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    assert_eq!(client.deposit(&account, "1").await.text("status"), "SUCCESS");
    let jetstream = broker::connect(&stack).await;
    stack.fault("transaction-service-*/postgres", Fault::Refuse).await;
    let trace = "2af7651916cd43dd8448eb211c80319c";
    let traceparent = format!("00-{trace}-b7ad6b7169203331-01");
    let key = new_key();
    let headers = [
        ("content-type", "application/json"),
        ("idempotency-key", key.as_str()),
        ("traceparent", traceparent.as_str()),
    ];
    let path = format!("/v1/accounts/{account}/deposits");
    let body = Some(json!({ "amount": "10" }).to_string().into());
    let accepted = client.send(Method::POST, &path, &headers, body).await.unwrap();
    assert_eq!(accepted.status, 202, "{accepted:?}");
    eventually("a worker holds the command", SOON, || async {
        let (unacked, _) = broker::unacked(&jetstream, "TRANSACTION", "deposit-consumer").await;
        (unacked > 0).then_some(())
    })
    .await;
    // The worker is killed while it holds the command. The redrive comes before the redelivery.
    stack.fault("transaction-service-*", Fault::Kill).await;
    stack.fault("transaction-service-*/postgres", Fault::Pass).await;
    assert_eq!(client.settled(accepted.text("recordId")).await.text("status"), "SUCCESS");
    let in_trace = |span: &Span| span.trace == trace;
    let is_redelivery = |span: &Span| {
        let delivery = span.attributes.get("passbook.delivery_count");
        span.name == "process transaction.deposit" && delivery.is_some_and(|count| count != "1")
    };
    let is_redrive = |span: &Span| {
        span.kind == PRODUCER && span.attributes.contains_key("passbook.redrive.attempt")
    };
    let spans = collector
        .trace("both are recorded", in_trace, |spans| {
            spans.iter().any(is_redelivery) && spans.iter().any(is_redrive)
        })
        .await;
    let server = spans.iter().find(|span| span.kind == SERVER).unwrap();
    assert_eq!(server.parent, "b7ad6b7169203331");
    let link = |to: &Span| vec![(trace.to_owned(), to.id.clone())];
    let redrive = spans.iter().find(|span| is_redrive(span)).unwrap();
    assert_eq!((&redrive.parent, &redrive.links), (&server.id, &link(server)));
    let redelivery = spans.iter().find(|span| is_redelivery(span)).unwrap();
    let producer = spans.iter().find(|span| span.id == redelivery.parent).unwrap();
    assert_eq!((producer.kind, &redelivery.links), (PRODUCER, &link(producer)));
    assert_eq!(producer.name, "publish transaction.deposit");
    // No other trace was recorded, and the redelivery was counted.
    assert!(collector.all().iter().all(in_trace));
    let mut redeliveries = 0.0;
    for replica in ["transaction-service-0", "transaction-service-1"] {
        let scrape = Scrape::of(&stack, replica).await;
        let consumer = [("consumer", "deposit-consumer")];
        redeliveries += scrape.sum("passbook_redeliveries_total", &consumer).unwrap();
    }
    assert!(redeliveries >= 1.0, "{redeliveries}");
}

#[tokio::test]
async fn with_an_unresponsive_collector_everything_settles_and_stops_in_time() {
    // Accepts connections and never reads from them.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let mut stack = start("traced-in-vain", &endpoint, "1").await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    let deposits = async || {
        let begun = Instant::now();
        for _ in 0..20 {
            assert_eq!(client.deposit(&account, "1").await.text("status"), "SUCCESS");
        }
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    };
    deposits().await;
    // More spans than fit into the queue, while the exporter waits for the first batch.
    let item = |key: usize| json!({"accountId": account, "type": "DEPOSIT", "amount": "1", "idempotencyKey": key.to_string()});
    let batch = json!({ "items": (0..1000).map(item).collect::<Vec<_>>() });
    for round in 0..6 {
        let text = batch
            .to_string()
            .replace("\"idempotencyKey\":\"", &format!("\"idempotencyKey\":\"{round}-"));
        let batch = serde_json::from_str(&text).unwrap();
        assert_eq!(client.post("/v1/batches", &[], &batch).await.status, 200);
    }
    deposits().await;
    for reason in ["queue_full", "not_taken"] {
        eventually(reason, SOON, || async {
            let mut dropped = 0.0;
            for replica in ["account-service-0", "account-service-1"] {
                let scrape = Scrape::of(&stack, replica).await;
                dropped += scrape.sum("passbook_spans_dropped_total", &[("reason", reason)])?;
            }
            (dropped > 0.0).then_some(())
        })
        .await;
    }
    eventually("all deposits are settled", SOON, || async {
        (client.account(&account).await.text("balance") == "6040").then_some(())
    })
    .await;
    let begun = Instant::now();
    assert_eq!(stack.stop(Signal::SIGTERM), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}
