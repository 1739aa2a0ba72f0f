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
mod spans;

pub use commit::Commit;
pub use spans::{Called, Served, Stepped};
pub(crate) use spans::{Processed, Published};

use axum::http;
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};

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
