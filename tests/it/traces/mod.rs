//! One request is one trace, across both services, whatever happens on the way.

use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use devstack::Fault;
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::json;
use tests::{
    Client, Stack, broker,
    client::new_key,
    eventually,
    metrics::Scrape,
    stack::{folder, text},
};

use crate::collector::{CLIENT, CONSUMER, Collector, PRODUCER, SERVER, Span};

const ACCOUNT: &str = "account-service";
const TRANSACTION: &str = "transaction-service";
const SOON: Duration = Duration::from_secs(30);

async fn start(name: &str, endpoint: &str, ratio: &str) -> Stack {
    let settings = [
        format!("OTEL_EXPORTER_OTLP_ENDPOINT={endpoint}"),
        format!("OTEL_TRACES_SAMPLER_ARG={ratio}"),
    ];
    Stack::start_under(&folder(name), &settings, &["--port", "0", "--faults"]).await
}

/// The request of a movement in this account.
fn movement(account: &str) -> impl Fn(&Span) -> bool {
    let path = format!("/v1/accounts/{account}/");
    move |span| span.attributes.get("url.path").is_some_and(|it| it.starts_with(&path))
}

/// Name, service, kind and the parent's name.
fn shape(spans: &[Span]) -> Vec<(&str, &str, i32, &str)> {
    let name = |id: &str| spans.iter().find(|it| it.id == id).map_or("", |it| it.name.as_str());
    spans.iter().map(|it| (&*it.name, &*it.service, it.kind, name(&it.parent))).collect()
}

/// What one movement leaves, in this order.
fn way(resource: &str, kind: &str) -> [(String, &'static str, i32, String); 8] {
    let server = format!("POST /v1/accounts/{{account}}/{resource}");
    let (send, take) =
        (format!("publish transaction.{kind}"), format!("process transaction.{kind}"));
    let (tell, hear) = (
        format!("publish transaction.result.{kind}"),
        format!("process transaction.result.{kind}"),
    );
    [
        (server.clone(), ACCOUNT, SERVER, String::new()),
        ("INSERT transaction_records".to_owned(), ACCOUNT, CLIENT, server.clone()),
        (send.clone(), ACCOUNT, PRODUCER, server),
        (take.clone(), TRANSACTION, CONSUMER, send),
        ("INSERT transactions".to_owned(), TRANSACTION, CLIENT, take.clone()),
        (tell.clone(), TRANSACTION, PRODUCER, take),
        (hear.clone(), ACCOUNT, CONSUMER, tell),
        ("UPDATE transaction_records".to_owned(), ACCOUNT, CLIENT, hear),
    ]
}

fn assert_way(spans: &[Span], resource: &str, kind: &str) {
    let way = way(resource, kind);
    let expected: Vec<_> =
        way.iter().map(|it| (it.0.as_str(), it.1, it.2, it.3.as_str())).collect();
    assert_eq!(shape(spans), expected);
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
        // However slow the machine is: a redrive would add its own spans.
        "PASSBOOK_REDRIVE_AFTER=5m".to_owned(),
    ];
    let stack = Stack::start_under(&folder("traced"), &settings, &["--port", "0"]).await;
    let client = Client::teller(&stack);
    let secret = "key-that-nobody-may-see";
    for (resource, kind) in [("deposits", "deposit"), ("withdrawals", "withdrawal")] {
        let account = client.open_account("KRW").await;
        let answer = client.movement(resource, &account, "4711", secret, Some(20)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let spans = collector.trace(kind, movement(&account), |spans| spans.len() >= 8).await;
        assert_way(&spans, resource, kind);
        assert_eq!(spans[0].parent, "");
        assert_eq!(spans[0].attributes["http.response.status_code"], "200");
        for sent in [&spans[2], &spans[3], &spans[5], &spans[6]] {
            assert_eq!(sent.attributes["messaging.system"], "nats");
            assert_eq!(sent.attributes["messaging.message.id"], answer.text("recordId"));
        }
        for told in [&spans[3], &spans[6]] {
            assert_eq!(told.attributes["passbook.delivery_count"], "1");
        }
        // The PubAck may be read later than the message is; nothing else ends out of order.
        assert!(spans[1].ended <= spans[2].begun && spans[4].ended <= spans[5].begun);
    }
    let token = stack.file().tokens.teller;
    for value in collector.all().iter().flat_map(|span| span.attributes.values()) {
        assert!(![secret, &token, "4711"].iter().any(|it| value.contains(it)), "{value}");
    }

    // Its items are each under the request.
    let account = client.open_account("KRW").await;
    let item = |key: &str| json!({"accountId": account, "type": "DEPOSIT", "amount": "1", "idempotencyKey": key});
    let headers = [("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")];
    let batch = json!({ "items": [item("one"), item("two")] });
    assert_eq!(client.post("/v1/batches", &headers, &batch).await.status, 200);
    let batch = |span: &Span| span.name == "POST /v1/batches";
    let spans = collector.trace("a batch", batch, |spans| spans.len() >= 15).await;
    let server = &spans[0];
    assert_eq!((server.parent.as_str(), server.kind), ("b7ad6b7169203331", SERVER));
    for (name, many) in [
        ("INSERT transaction_records", 2),
        ("publish transaction.deposit", 2),
        ("process transaction.result.deposit", 2),
    ] {
        assert_eq!(spans.iter().filter(|it| it.name == name).count(), many, "{name}");
    }
    let inserts = spans.iter().filter(|it| it.name == "INSERT transaction_records");
    assert!(inserts.clone().all(|it| it.parent == server.id));
    assert!(inserts.clone().all(|it| it.attributes["db.operation.batch.size"] == "2"));
    assert!(spans.iter().all(|it| it.trace == "0af7651916cd43dd8448eb211c80319c"));

    // Spans wait in a bounded room, whatever somebody sends.
    let path = format!("/long{}", "g".repeat(5000));
    assert_eq!(client.get(&path).await.status, 404);
    let long = |span: &Span| span.attributes.get("url.path").is_some_and(|it| path.starts_with(it));
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
    let ours = |span: &Span| span.trace == trace;
    let spans = collector.trace("its spans", ours, |spans| spans.len() >= 2).await;
    let letter = "publish dead-letter.TRANSACTION.deposit-consumer";
    let processed = spans.iter().find(|it| it.name == "process transaction.deposit").unwrap();
    let buried = spans.iter().find(|it| it.name == letter).unwrap();
    assert!(processed.failed && !buried.failed, "{spans:#?}");
    assert_eq!((&*processed.parent, &buried.parent), ("b7ad6b7169203331", &processed.id));
    let logs = [0, 1].map(|it| text(&stack.dir.join(format!("logs/transaction-service-{it}.log"))));
    let line = logs.iter().flat_map(|it| it.lines()).find(|it| it.contains("\"dead letter\""));
    let line: serde_json::Value = serde_json::from_str(line.unwrap()).unwrap();
    assert_eq!(line["span"]["trace_id"], trace, "{line}");
    assert_eq!(line["span"]["span_id"], processed.id, "{line}");
}

#[tokio::test]
async fn redelivered_and_redriven_commands_stay_in_the_trace_of_their_request()
{
    let collector = Collector::start().await;
    // What begins here is not recorded; what the caller wants recorded is.
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
    eventually("a worker has it in hand", SOON, || async {
        let (unacked, _) = broker::unacked(&jetstream, "TRANSACTION", "deposit-consumer").await;
        (unacked > 0).then_some(())
    })
    .await;
    // Its worker dies with it; the redrive will not wait until it is delivered again.
    stack.fault("transaction-service-*", Fault::Kill).await;
    stack.fault("transaction-service-*/postgres", Fault::Pass).await;
    assert_eq!(client.settled(accepted.text("recordId")).await.text("status"), "SUCCESS");
    let ours = |span: &Span| span.trace == trace;
    let again = |it: &Span| {
        let delivery = it.attributes.get("passbook.delivery_count");
        it.name == "process transaction.deposit" && delivery.is_some_and(|it| it != "1")
    };
    let redriven =
        |it: &Span| it.kind == PRODUCER && it.attributes.contains_key("passbook.redrive.attempt");
    let spans = collector
        .trace("both are recorded", ours, |spans| {
            spans.iter().any(again) && spans.iter().any(redriven)
        })
        .await;
    let server = spans.iter().find(|it| it.kind == SERVER).unwrap();
    assert_eq!(server.parent, "b7ad6b7169203331");
    let link = |to: &Span| vec![(trace.to_owned(), to.id.clone())];
    let redriven = spans.iter().find(|it| redriven(it)).unwrap();
    assert_eq!((&redriven.parent, &redriven.links), (&server.id, &link(server)));
    let again = spans.iter().find(|it| again(it)).unwrap();
    let producer = spans.iter().find(|it| it.id == again.parent).unwrap();
    assert_eq!((producer.kind, &again.links), (PRODUCER, &link(producer)));
    assert_eq!(producer.name, "publish transaction.deposit");
    // Nothing else was recorded, and the redelivery was counted.
    assert!(collector.all().iter().all(ours));
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
    // Takes connections, and reads none of them.
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
    // More than there is room for, while the first batch still waits.
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
    eventually("all is settled", SOON, || async {
        (client.account(&account).await.text("balance") == "6040").then_some(())
    })
    .await;
    let begun = Instant::now();
    assert_eq!(stack.stop(Signal::SIGTERM), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}
