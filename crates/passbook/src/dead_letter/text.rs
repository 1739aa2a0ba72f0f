//! Letters as text for a terminal.

use super::{DeadLetter, rfc3339};
use crate::terminal::escape;

/// Limit for a reason in a table, in characters.
const MAX_REASON: usize = 100;

impl DeadLetter {
    /// Its lines: what is known about it, and its body.
    pub fn page(&self) -> String {
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let rows = [
            ("id", self.id.to_string()),
            ("kept at", rfc3339(self.kept_at)),
            ("consumer", self.consumer.clone()),
            ("reason", self.reason().to_owned()),
            ("published on", text(self.subject())),
            ("message id", text(self.message_id())),
            ("record", self.record().map(|record| record.to_string()).unwrap_or_default()),
            (
                "records",
                match self.records.len() {
                    0 | 1 => String::new(),
                    several => format!("{several} in one message"),
                },
            ),
            (
                "cut from",
                self.truncated_from().map(|length| format!("{length} bytes")).unwrap_or_default(),
            ),
            ("closed", self.closed.as_ref().map(ToString::to_string).unwrap_or_default()),
        ];
        let rows = rows.iter().filter(|(_, value)| !value.is_empty());
        let rows = rows.map(|(name, value)| format!("{name:>12}  {}\n", escape(value)));
        let body = self.body();
        // Line breaks stay; all other control characters are escaped.
        let lines = body.split('\n').map(|line| escape(line) + "\n");
        rows.chain(["\n".to_owned()]).chain(lines).collect()
    }

    /// Its cells in a table: id, time, consumer, record, reason and, if it is closed, how.
    pub fn row(&self) -> Vec<String> {
        let record = self.record().map(|record| record.to_string()).unwrap_or_default();
        let mut row = vec![self.id.to_string(), rfc3339(self.kept_at)];
        row.extend([self.consumer.clone(), record, shorten(self.reason())]);
        row.extend(self.closed.iter().map(ToString::to_string));
        row
    }
}

fn shorten(reason: &str) -> String {
    match reason.char_indices().nth(MAX_REASON) {
        Some((end, _)) => format!("{}…", reason.get(..end).unwrap_or_default()),
        None => reason.to_owned(),
    }
}
