//! The span of a database commit.

use std::{fmt, time::SystemTime};

use opentelemetry::{KeyValue, trace::SpanKind};

use super::{Trace, spans::Span};

/// One commit for a batch of requests or messages.
#[derive(Debug)]
pub struct Commit {
    begun: SystemTime,
    operation: &'static str,
    table: &'static str,
}

impl Commit {
    /// Starts a commit now.
    #[must_use]
    pub fn begin(operation: &'static str, table: &'static str) -> Self {
        Self { begun: SystemTime::now(), operation, table }
    }

    /// Records the commit as a child span of each of its requests or messages, with
    /// the error of a failed commit. `size` is the number of items in the batch.
    pub fn end<'a, E: fmt::Display>(
        &self,
        size: usize,
        traces: impl Iterator<Item = &'a Trace>,
        error: Option<&E>,
    ) {
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        for trace in traces.filter(|trace| trace.is_recorded()) {
            let mut attributes = vec![
                KeyValue::new("db.system.name", "postgresql"),
                KeyValue::new("db.operation.name", self.operation),
                KeyValue::new("db.collection.name", self.table),
            ];
            // The conventions allow this attribute only for batches of two or more.
            if size > 1 {
                attributes.push(KeyValue::new("db.operation.batch.size", size));
            }
            trace.child().record(Span {
                name: format!("{} {}", self.operation, self.table).into(),
                kind: SpanKind::Client,
                begun: self.begun,
                attributes,
                link: None,
                error: error.map(|error| error.to_string().into()),
            });
        }
    }
}
