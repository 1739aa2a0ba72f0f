//! The spans of requests, steps of a longer work, and messages, recorded at their end.

use std::{borrow::Cow, time::SystemTime};

use opentelemetry::{
    InstrumentationScope, KeyValue,
    trace::{Link, SpanId, SpanKind, Status},
};
use opentelemetry_sdk::trace::{SpanData, SpanLinks};

use super::Trace;
use crate::telemetry::otlp;

impl Trace {
    /// Records this span with the current time as its end.
    pub(super) fn record(&self, span: Span) {
        if !self.is_recorded() {
            return;
        }
        let mut links = SpanLinks::default();
        links.links.extend(span.link.map(|to| Link::with_context(to.context())));
        otlp::export(SpanData {
            span_context: self.context(),
            parent_span_id: self.parent,
            parent_span_is_remote: self.remote,
            span_kind: span.kind,
            name: span.name,
            start_time: span.begun,
            end_time: SystemTime::now().max(span.begun),
            attributes: span.attributes,
            dropped_attributes_count: 0,
            events: Default::default(),
            links,
            status: span.error.map_or(Status::Unset, |description| Status::Error {
                description: truncated(description.into_owned()).into(),
            }),
            instrumentation_scope: InstrumentationScope::builder("passbook").build(),
        });
    }

    /// Records the span of a request.
    pub fn served(&self, served: Served) {
        let (method, route, path, status) =
            (served.method, served.route, served.path, served.status);
        let mut attributes = vec![
            KeyValue::new("http.request.method", method),
            KeyValue::new("http.response.status_code", i64::from(status)),
            KeyValue::new("url.path", truncated(path)),
            KeyValue::new("url.scheme", "http"),
        ];
        let name = match &*route {
            "" => method.to_owned(),
            route => format!("{method} {route}"),
        };
        if !route.is_empty() {
            attributes.push(KeyValue::new("http.route", route));
        }
        let failed = status >= 500;
        if failed {
            attributes.push(KeyValue::new("error.type", status.to_string()));
        }
        self.record(Span {
            name: name.into(),
            kind: SpanKind::Server,
            begun: served.begun,
            attributes,
            link: None,
            error: failed.then_some(Cow::Borrowed("")),
        });
    }

    /// Records the span of a step of a longer work.
    pub fn stepped(&self, step: Stepped) {
        let attributes = step.attributes.into_iter();
        self.record(Span {
            name: step.name,
            kind: SpanKind::Internal,
            begun: step.begun,
            attributes: attributes
                .map(|(key, value)| KeyValue::new(key, truncated(value)))
                .collect(),
            link: None,
            error: step.error.map(Cow::Owned),
        });
    }

    /// Records the span of a request to a server outside of the system. The span of the request
    /// that is the reason, if `link` names it, may be days older.
    pub fn called(&self, called: Called) {
        let mut attributes = vec![
            KeyValue::new("http.request.method", called.method),
            KeyValue::new("server.address", truncated(called.host)),
        ];
        if let Some(port) = called.port {
            attributes.push(KeyValue::new("server.port", i64::from(port)));
        }
        if let Some(status) = called.status {
            attributes.push(KeyValue::new("http.response.status_code", i64::from(status)));
        }
        let more = called.attributes.into_iter();
        attributes.extend(more.map(|(key, value)| KeyValue::new(key, truncated(value))));
        self.record(Span {
            name: called.name.into(),
            kind: SpanKind::Client,
            begun: called.begun,
            attributes,
            link: called.link,
            error: called.error.map(Cow::Owned),
        });
    }

    /// Records the span of publishing a message, with or without a PubAck.
    pub(crate) fn published(&self, published: Published<'_>) {
        let mut attributes = messaging("publish", "send", published.subject, published.message_id);
        if let Some(attempt) = published.link.and(published.message_id.rsplit_once('.')) {
            attributes.push(KeyValue::new("passbook.redrive.attempt", attempt.1.to_owned()));
        }
        self.record(Span {
            name: format!("publish {}", published.subject).into(),
            kind: SpanKind::Producer,
            begun: published.begun,
            attributes,
            link: published.link,
            error: published.error.map(Cow::Owned),
        });
    }

    /// Records the span of processing a message. Its parent is the span that published the message. A
    /// redelivery links to that span, too.
    pub(crate) fn processed(&self, processed: Processed<'_>) {
        let subject = processed.subject;
        let mut attributes = messaging("process", "process", subject, processed.message_id);
        attributes.push(KeyValue::new("messaging.consumer.group.name", processed.consumer));
        attributes.push(KeyValue::new("passbook.delivery_count", processed.delivered));
        let redelivered = processed.delivered > 1 && self.parent != SpanId::INVALID;
        self.record(Span {
            name: format!("process {subject}").into(),
            kind: SpanKind::Consumer,
            begun: processed.begun,
            attributes,
            link: redelivered.then(|| self.parent()),
            error: processed.error.map(Cow::Owned),
        });
    }
}

/// Maximum bytes of a text from outside this process, so that queued spans are bounded.
const MAX_TEXT: usize = 256;

fn truncated(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_TEXT));
    text
}

fn messaging(
    name: &'static str,
    kind: &'static str,
    subject: &str,
    message_id: &str,
) -> Vec<KeyValue> {
    vec![
        KeyValue::new("messaging.system", "nats"),
        KeyValue::new("messaging.operation.name", name),
        KeyValue::new("messaging.operation.type", kind),
        KeyValue::new("messaging.destination.name", subject.to_owned()),
        KeyValue::new("messaging.message.id", truncated(message_id.to_owned())),
    ]
}

/// A span without its ids.
pub(super) struct Span {
    pub(super) name: Cow<'static, str>,
    pub(super) kind: SpanKind,
    pub(super) begun: SystemTime,
    pub(super) attributes: Vec<KeyValue>,
    pub(super) link: Option<Trace>,
    /// Why it failed.
    pub(super) error: Option<Cow<'static, str>>,
}

/// An answered request.
#[derive(Debug)]
pub struct Served {
    /// When it arrived.
    pub begun: SystemTime,
    pub method: &'static str,
    /// The matched route; empty without a match.
    pub route: String,
    pub path: String,
    /// The status of the response.
    pub status: u16,
}

/// A request to a server outside of the system.
#[derive(Debug)]
pub struct Called {
    pub begun: SystemTime,
    pub name: &'static str,
    pub method: &'static str,
    /// Of the URL. Its other parts may contain secrets.
    pub host: String,
    pub port: Option<u16>,
    /// The status of the response, if there was one.
    pub status: Option<u16>,
    pub attributes: Vec<(&'static str, String)>,
    /// The request that is the reason.
    pub link: Option<Trace>,
    /// Why it failed.
    pub error: Option<String>,
}

/// A step of a longer work.
#[derive(Debug)]
pub struct Stepped {
    /// When it began.
    pub begun: SystemTime,
    pub name: Cow<'static, str>,
    pub attributes: Vec<(&'static str, String)>,
    /// Why it failed.
    pub error: Option<String>,
}

/// A published message.
pub(crate) struct Published<'a> {
    pub(crate) begun: SystemTime,
    pub(crate) subject: &'a str,
    pub(crate) message_id: &'a str,
    /// For a redrive: the original request.
    pub(crate) link: Option<Trace>,
    pub(crate) error: Option<String>,
}

/// A processed message.
pub(crate) struct Processed<'a> {
    pub(crate) begun: SystemTime,
    pub(crate) consumer: &'static str,
    pub(crate) subject: &'a str,
    pub(crate) message_id: &'a str,
    pub(crate) delivered: i64,
    pub(crate) error: Option<String>,
}
