//! The W3C trace context that travels with a request and its messages, so that
//! one deposit can be followed across both services.

use axum::http;
use opentelemetry::{
    propagation::{Extractor, TextMapPropagator},
    trace::{SpanContext, TraceContextExt, TraceFlags, TraceState},
};
use opentelemetry_sdk::{
    propagation::TraceContextPropagator,
    trace::{IdGenerator, RandomIdGenerator},
};

const TRACEPARENT: &str = "traceparent";

/// Where we are in a trace.
#[derive(Debug, Clone)]
pub struct Trace(SpanContext);

impl Trace {
    /// Goes on with the trace that a caller sent, or begins one.
    #[must_use]
    pub fn of_request(headers: &http::HeaderMap) -> Self {
        Self::continued(headers.get(TRACEPARENT).and_then(|value| value.to_str().ok()))
    }

    /// Goes on with the trace that a message carries, or begins one.
    #[must_use]
    pub fn of_message(headers: Option<&async_nats::HeaderMap>) -> Self {
        Self::continued(headers.and_then(|it| it.get(TRACEPARENT)).map(|value| value.as_str()))
    }

    fn continued(traceparent: Option<&str>) -> Self {
        let ids = RandomIdGenerator::default();
        let parent = traceparent.map_or(SpanContext::NONE, |_| {
            let context = TraceContextPropagator::new().extract(&Carried(traceparent));
            context.span().span_context().clone()
        });
        let trace_id = if parent.is_valid() { parent.trace_id() } else { ids.new_trace_id() };
        let flags = if parent.is_valid() { parent.trace_flags() } else { TraceFlags::default() };
        Self(SpanContext::new(trace_id, ids.new_span_id(), flags, false, TraceState::NONE))
    }

    /// The trace's id, for log lines.
    #[must_use]
    pub fn id(&self) -> String {
        self.0.trace_id().to_string()
    }

    /// Lets a message carry it.
    pub fn write_to(&self, headers: &mut async_nats::HeaderMap) {
        // Version 00 of the header, without a state: what a propagator would write, too.
        let (trace, span, flags) = (self.0.trace_id(), self.0.span_id(), self.0.trace_flags());
        headers.insert(TRACEPARENT, format!("00-{trace}-{span}-{:02x}", flags.to_u8()));
    }
}

struct Carried<'a>(Option<&'a str>);

impl Extractor for Carried<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.filter(|_| key == TRACEPARENT)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_goes_on_with_the_trace_of_its_request() {
        let mut request = http::HeaderMap::new();
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        request.insert(TRACEPARENT, parent.parse().unwrap());
        let mut message = async_nats::HeaderMap::new();
        Trace::of_request(&request).write_to(&mut message);
        let carried = message.get(TRACEPARENT).unwrap().as_str();
        assert!(carried.starts_with("00-0af7651916cd43dd8448eb211c80319c-"), "{carried}");
        assert_ne!(carried, parent);
        assert_eq!(Trace::of_message(Some(&message)).id(), "0af7651916cd43dd8448eb211c80319c");
    }

    #[test]
    fn a_traceparent_that_is_none_begins_a_new_trace() {
        let mut request = http::HeaderMap::new();
        request.insert(TRACEPARENT, "00-zz".parse().unwrap());
        assert_eq!(Trace::of_request(&request).id().len(), 32);
    }
}
