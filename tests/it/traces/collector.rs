//! A trace collector: receives spans by OTLP over HTTP.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
};
use prost::Message;
use tests::eventually;
use tokio::net::TcpListener;

/// A received span. Ids are hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) service: String,
    pub(super) instance: String,
    pub(super) trace: String,
    pub(super) id: String,
    /// The parent's id; empty for the first span of a trace.
    pub(super) parent: String,
    pub(super) name: String,
    /// The protocol's `SpanKind`.
    pub(super) kind: i32,
    pub(super) begun: u64,
    pub(super) ended: u64,
    pub(super) attributes: HashMap<String, String>,
    /// Trace and span ids of linked spans.
    pub(super) links: Vec<(String, String)>,
    pub(super) failed: bool,
}

pub(super) const SERVER: i32 = 2;
pub(super) const CLIENT: i32 = 3;
pub(super) const PRODUCER: i32 = 4;
pub(super) const CONSUMER: i32 = 5;

type Received = Arc<Mutex<Vec<Span>>>;

/// Receives spans until the test ends.
pub(super) struct Collector {
    pub(super) endpoint: String,
    received: Received,
}

impl Collector {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let received = Received::default();
        let router =
            Router::new().route("/v1/traces", post(receive)).with_state(Arc::clone(&received));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { endpoint, received }
    }

    /// All spans received so far.
    pub(super) fn all(&self) -> Vec<Span> {
        self.received.lock().unwrap().clone()
    }

    /// Waits for the trace with a span that matches `of`, until `complete` holds for its spans.
    /// Gives them in the order of their beginnings.
    pub(super) async fn trace(
        &self,
        what: &str,
        of: impl Fn(&Span) -> bool,
        complete: impl Fn(&[Span]) -> bool,
    ) -> Vec<Span> {
        eventually(what, Duration::from_secs(90), || async {
            let all = self.all();
            let trace = all.iter().find(|span| of(span))?.trace.clone();
            let mut spans: Vec<_> = all.into_iter().filter(|span| span.trace == trace).collect();
            spans.sort_by_key(|span| span.begun);
            complete(&spans).then_some(spans)
        })
        .await
    }
}

async fn receive(State(received): State<Received>, body: Bytes) -> StatusCode {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    for resource in request.resource_spans {
        let origin = attributes(resource.resource.unwrap().attributes);
        assert_eq!(origin["service.namespace"], "passbook");
        assert!(!origin["service.version"].is_empty());
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            let links = span.links.iter().map(|link| (hex(&link.trace_id), hex(&link.span_id)));
            received.lock().unwrap().push(Span {
                service: origin["service.name"].clone(),
                instance: origin["service.instance.id"].clone(),
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                name: span.name,
                kind: span.kind,
                begun: span.start_time_unix_nano,
                ended: span.end_time_unix_nano,
                links: links.collect(),
                attributes: attributes(span.attributes),
                failed: span.status.is_some_and(|status| status.code == 2),
            });
        }
    }
    StatusCode::OK
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attributes(pairs: Vec<KeyValue>) -> HashMap<String, String> {
    let text = |value: Value| match value {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    };
    let attribute = |pair: KeyValue| (pair.key, text(pair.value.unwrap().value.unwrap()));
    pairs.into_iter().map(attribute).collect()
}
