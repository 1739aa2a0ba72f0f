//! The span of an attempt. It has no part of the URL but its host: the others may be secret.

use std::time::SystemTime;

use axum::http::Uri;
use runtime::telemetry::trace::{Called, Trace};
use uuid::Uuid;

use crate::sender::{Outcome, Sent};

/// An attempt that is under way.
pub(super) struct AttemptSpan {
    trace: Trace,
    movement: Option<Trace>,
    begun: SystemTime,
}

impl AttemptSpan {
    /// In the trace of the movement, with a link to its request: a retry may be days later. Without
    /// a movement, or if its trace is not recorded, it is a trace of its own.
    pub(super) fn begin(movement: Option<Trace>) -> Self {
        let trace = movement.map_or_else(Trace::begin, |movement| movement.child());
        Self { trace, movement, begun: SystemTime::now() }
    }

    /// `earlier` are the failed attempts before.
    pub(super) fn end(
        self,
        endpoint: Uuid,
        url: &Uri,
        event: &str,
        earlier: Option<i32>,
        sent: &Sent,
    ) {
        if !self.trace.is_recorded() {
            return;
        }
        let attempt = earlier.unwrap_or(0).saturating_add(1);
        let error = match &sent.outcome {
            Outcome::Delivered => None,
            Outcome::Failed(failure) => Some(failure.error.clone()),
        };
        self.trace.called(Called {
            begun: self.begun,
            name: "deliver webhook",
            method: "POST",
            host: url.host().unwrap_or_default().to_owned(),
            port: url.port_u16(),
            status: sent.status,
            attributes: vec![
                ("passbook.webhook.endpoint.id", endpoint.to_string()),
                ("passbook.event.id", event.to_owned()),
                ("passbook.webhook.attempt", attempt.to_string()),
            ],
            link: self.movement,
            error,
        });
    }
}
