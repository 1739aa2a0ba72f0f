//! The attempts of a webhook's delivery, in the trace of the movement.

use std::collections::HashMap;

use reqwest::Method;
use serde_json::json;
use tests::{Client, Stack, client::new_key, stack::initialized_folder};

use super::{Collector, SERVER, Span};
use crate::webhooks::receiver::Receiver;

#[tokio::test]
async fn each_attempt_of_a_delivery_is_a_span_in_the_trace_of_its_movement() {
    let collector = Collector::start().await;
    let settings = [
        format!("OTEL_EXPORTER_OTLP_ENDPOINT={}", collector.endpoint),
        "OTEL_TRACES_SAMPLER_ARG=0".to_owned(),
    ];
    let one = ["account", "transaction", "webhook"];
    let one = one.map(|service| [format!("--{service}-replicas"), "1".to_owned()]).concat();
    let arguments: Vec<_> =
        ["--port", "0"].into_iter().chain(one.iter().map(String::as_str)).collect();
    let folder = initialized_folder("traced-webhooks").await;
    let stack = Stack::start_under(&folder, &settings, &arguments).await;
    let client = Client::teller(&stack);
    let receiver = Receiver::start().await;
    let body = json!({ "url": receiver.url, "types": ["record.succeeded"] });
    let created = client.post("/v1/webhook-endpoints", &[], &body).await;
    assert_eq!(created.status, 201, "{created:?}");
    receiver.answer(500);
    let account = client.open_account("KRW").await;
    let (trace, key) = ("3af7651916cd43dd8448eb211c80319c", new_key());
    let headers = [
        ("content-type", "application/json"),
        ("idempotency-key", key.as_str()),
        ("traceparent", &format!("00-{trace}-b7ad6b7169203331-01")),
    ];
    let path = format!("/v1/accounts/{account}/deposits");
    let body = Some(json!({ "amount": "10" }).to_string().into());
    let sent = client.send(Method::POST, &path, &headers, body).await.unwrap();
    assert!([200, 202].contains(&sent.status), "{sent:?}");
    let event = receiver.received(1, super::SOON).await.remove(0).id;
    receiver.answer(204);

    let is_attempt = |span: &Span| span.name == "deliver webhook";
    let in_trace = |span: &Span| span.trace == trace;
    let spans = collector
        .trace("both attempts", in_trace, |spans| {
            spans.iter().filter(|span| is_attempt(span)).count() == 2
        })
        .await;
    let server = spans.iter().find(|span| span.kind == SERVER).unwrap();
    let attempts: Vec<_> = spans.iter().filter(|span| is_attempt(span)).collect();
    for (index, (span, status)) in attempts.iter().zip(["500", "204"]).enumerate() {
        assert_eq!((&*span.service, span.kind), ("webhook-service", super::CLIENT));
        assert_eq!(span.parent, server.id);
        assert_eq!(span.links, [(trace.to_owned(), server.id.clone())]);
        assert_eq!(span.failed, status == "500");
        assert!(span.begun < span.ended);
        let endpoint = created.text("webhookEndpointId");
        let (port, attempt) = (receiver.port.to_string(), (index + 1).to_string());
        let expected = [
            ("http.request.method", "POST"),
            ("http.response.status_code", status),
            ("server.address", "127.0.0.1"),
            ("server.port", &port),
            ("passbook.webhook.endpoint.id", endpoint),
            ("passbook.event.id", &event),
            ("passbook.webhook.attempt", &attempt),
        ];
        let expected: HashMap<_, _> =
            expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        assert_eq!(span.attributes, expected);
    }
}
