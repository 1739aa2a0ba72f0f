//! A receiver of spans: OTLP over HTTP, as a collector has it.

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

/// A span, as it was received. Ids are hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) service: String,
    pub(crate) instance: String,
    pub(crate) trace: String,
    pub(crate) id: String,
    /// Empty if it is the first.
    pub(crate) parent: String,
    pub(crate) name: String,
    /// `SpanKind` of the protocol.
    pub(crate) kind: i32,
    pub(crate) begun: u64,
    pub(crate) ended: u64,
    pub(crate) attributes: HashMap<String, String>,
    /// Traces and spans.
    pub(crate) links: Vec<(String, String)>,
    pub(crate) failed: bool,
}

pub(crate) const SERVER: i32 = 2;
pub(crate) const CLIENT: i32 = 3;
pub(crate) const PRODUCER: i32 = 4;
pub(crate) const CONSUMER: i32 = 5;

type Received = Arc<Mutex<Vec<Span>>>;

/// Receives for as long as the test runs.
pub(crate) struct Collector {
    /// Where.
    pub(crate) endpoint: String,
    received: Received,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let received = Received::default();
        let router =
            Router::new().route("/v1/traces", post(receive)).with_state(Arc::clone(&received));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { endpoint, received }
    }

    /// All spans so far.
    pub(crate) fn all(&self) -> Vec<Span> {
        self.received.lock().unwrap().clone()
    }

    /// The spans of a trace in the order in which they began, once they are
    /// what is waited for.
    pub(crate) async fn trace(
        &self,
        what: &str,
        of: impl Fn(&Span) -> bool,
        complete: impl Fn(&[Span]) -> bool,
    ) -> Vec<Span> {
        eventually(what, Duration::from_secs(90), || async {
            let all = self.all();
            let trace = all.iter().find(|span| of(span))?.trace.clone();
            let mut spans: Vec<_> = all.into_iter().filter(|it| it.trace == trace).collect();
            spans.sort_by_key(|span| span.begun);
            complete(&spans).then_some(spans)
        })
        .await
    }
}

async fn receive(State(received): State<Received>, body: Bytes) -> StatusCode {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    for resource in request.resource_spans {
        let about = texts(resource.resource.unwrap().attributes);
        assert_eq!(about["service.namespace"], "passbook");
        assert!(!about["service.version"].is_empty());
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            let link = |it: &opentelemetry_proto::tonic::trace::v1::span::Link| {
                (hex(&it.trace_id), hex(&it.span_id))
            };
            received.lock().unwrap().push(Span {
                service: about["service.name"].clone(),
                instance: about["service.instance.id"].clone(),
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                name: span.name,
                kind: span.kind,
                begun: span.start_time_unix_nano,
                ended: span.end_time_unix_nano,
                links: span.links.iter().map(link).collect(),
                attributes: texts(span.attributes),
                failed: span.status.is_some_and(|status| status.code == 2),
            });
        }
    }
    StatusCode::OK
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn texts(attributes: Vec<KeyValue>) -> HashMap<String, String> {
    let text = |value: Value| match value {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    };
    let value = |it: KeyValue| (it.key, text(it.value.unwrap().value.unwrap()));
    attributes.into_iter().map(value).collect()
}
