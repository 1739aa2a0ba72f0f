//! The W3C trace context of a request and its messages, and their spans: one
//! deposit can be followed across both services.
//!
//! A [`Trace`] names a span and its parent. A span is recorded at its end, in one
//! call, and only if the trace is sampled and spans are exported. Otherwise a
//! `Trace` costs a few copied bytes. A bridge from `tracing` was rejected, because it
//! would cost time in every request.
//!
//! Names and attributes follow OpenTelemetry's semantic conventions. They contain
//! no token and no key. An error may quote the beginning of an invalid message.

mod commit;

pub use commit::Commit;

use std::{borrow::Cow, time::SystemTime};

use axum::http;
use opentelemetry::{
    InstrumentationScope, KeyValue,
    trace::{Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState},
};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SpanData, SpanLinks};

use super::otlp;

const TRACEPARENT: &str = "traceparent";

/// A span in a trace.
#[derive(Debug, Clone, Copy)]
pub struct Trace {
    trace: TraceId,
    span: SpanId,
    /// The parent span; invalid if there is none.
    parent: SpanId,
    /// Whether the parent belongs to another process.
    remote: bool,
    flags: TraceFlags,
}

impl Trace {
    /// Starts a trace.
    #[must_use]
    pub fn begin() -> Self {
        let ids = RandomIdGenerator::default();
        let trace = ids.new_trace_id();
        let flags = TraceFlags::default().with_sampled(otlp::samples(trace));
        let parent = SpanId::INVALID;
        Self { trace, span: ids.new_span_id(), parent, remote: false, flags }
    }

    /// Continues the trace of a request, or starts one.
    #[must_use]
    pub fn of_request(headers: &http::HeaderMap) -> Self {
        Self::continued(headers.get(TRACEPARENT).and_then(|value| value.to_str().ok()))
    }

    /// Continues the trace of a message, or starts one.
    #[must_use]
    pub fn of_message(headers: Option<&async_nats::HeaderMap>) -> Self {
        Self::continued(
            headers.and_then(|headers| headers.get(TRACEPARENT)).map(|value| value.as_str()),
        )
    }

    /// Continues the trace of a part of a message, or starts one.
    #[must_use]
    pub(crate) fn of_part(traceparent: Option<&str>) -> Self {
        Self::continued(traceparent)
    }

    fn continued(traceparent: Option<&str>) -> Self {
        let parent = traceparent.and_then(Self::parse);
        parent.map_or_else(Self::begin, |parent| Self { remote: true, ..parent.child() })
    }

    /// Parses a traceparent; `None` if it is malformed. The parent of its span is
    /// unknown.
    #[must_use]
    pub fn parse(traceparent: &str) -> Option<Self> {
        // W3C Trace Context, section 3.2: later versions may append fields to those of version 00.
        let mut parts = traceparent.trim().split('-');
        let (version, trace, span, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_hex = |part: &str, length| {
            part.len() == length
                && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let valid = is_hex(version, 2) && is_hex(trace, 32) && is_hex(span, 16) && is_hex(flags, 2);
        if !valid || version == "ff" || version == "00" && parts.next().is_some() {
            return None;
        }
        let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
        if trace == TraceId::INVALID || span == SpanId::INVALID {
            return None;
        }
        let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
        Some(Self { trace, span, parent: SpanId::INVALID, remote: false, flags })
    }

    /// A new child of this span.
    #[must_use]
    pub fn child(&self) -> Self {
        let span = RandomIdGenerator::default().new_span_id();
        Self { span, parent: self.span, remote: false, ..*self }
    }

    /// The parent span.
    fn parent(&self) -> Self {
        Self { span: self.parent, parent: SpanId::INVALID, ..*self }
    }

    /// The trace's id, for log lines.
    #[must_use]
    pub fn id(&self) -> String {
        self.trace.to_string()
    }

    /// The span's id, for log lines, if the span is recorded.
    #[must_use]
    pub fn span_id(&self) -> Option<String> {
        self.is_recorded().then(|| self.span.to_string())
    }

    /// The scope of log lines about one message.
    #[must_use]
    pub fn log_span(&self) -> tracing::Span {
        tracing::info_span!("message", trace_id = self.id(), span_id = self.span_id())
    }

    /// Whether this process records spans of this trace.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        self.flags.is_sampled() && otlp::is_on()
    }

    /// The value of the header `traceparent`.
    #[must_use]
    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-{:02x}", self.trace, self.span, self.flags.to_u8())
    }

    /// Adds the trace context to a message.
    pub fn write_to(&self, headers: &mut async_nats::HeaderMap) {
        headers.insert(TRACEPARENT, self.traceparent());
    }

    fn context(&self) -> SpanContext {
        SpanContext::new(self.trace, self.span, self.flags, false, TraceState::NONE)
    }

    /// Records this span with the current time as its end.
    fn record(&self, span: Span) {
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

    /// Records the span of processing a message. A redelivery links to the span
    /// that published the message, which is also its parent.
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
struct Span {
    name: Cow<'static, str>,
    kind: SpanKind,
    begun: SystemTime,
    attributes: Vec<KeyValue>,
    link: Option<Trace>,
    /// Why it failed.
    error: Option<Cow<'static, str>>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_continues_the_trace_of_its_request() {
        let mut request = http::HeaderMap::new();
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        request.insert(TRACEPARENT, parent.parse().unwrap());
        let mut message = async_nats::HeaderMap::new();
        Trace::of_request(&request).write_to(&mut message);
        let carried = message.get(TRACEPARENT).unwrap().as_str();
        assert!(carried.starts_with("00-0af7651916cd43dd8448eb211c80319c-"), "{carried}");
        assert!(carried.ends_with("-01"), "{carried}");
        assert_ne!(carried, parent);
        assert_eq!(Trace::of_message(Some(&message)).id(), "0af7651916cd43dd8448eb211c80319c");
    }

    #[test]
    fn a_malformed_traceparent_starts_a_new_trace() {
        let mut request = http::HeaderMap::new();
        request.insert(TRACEPARENT, "00-zz".parse().unwrap());
        assert_eq!(Trace::of_request(&request).id().len(), 32);
    }

    #[test]
    fn a_traceparent_is_parsed_as_it_was_written() {
        let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
        let good = format!("00-{trace}-{span}-01");
        assert_eq!(Trace::parse(&good).unwrap().traceparent(), good);
        // A later version, with flags unknown to version 00.
        let later = Trace::parse(&format!("cc-{trace}-{span}-03-more")).unwrap();
        assert_eq!(later.traceparent(), good);
        for bad in [
            format!("ff-{trace}-{span}-01"),
            format!("00-{trace}-{span}-01-more"),
            format!("00-{trace}-{span}"),
            format!("00-{}-{span}-01", "0".repeat(32)),
            format!("00-{trace}-{}-01", "0".repeat(16)),
            format!("00-{}-{span}-01", trace.to_uppercase()),
            format!("00-{trace}-{span}é-01"),
            String::new(),
        ] {
            assert!(Trace::parse(&bad).is_none(), "{bad}");
        }
    }
}
