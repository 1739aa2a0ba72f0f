//! Server-sent events of a report.

use contract::ReportId;
use serde::Deserialize;

use super::{
    client::{Body, Client, next_piece},
    error::ApiError,
    report::{Progress, path},
};

/// Limit for one line.
const MAX_LINE: usize = 64 << 10;

/// The state of a report at some time.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Event {
    pub(super) state: String,
    pub(super) progress: Option<Progress>,
}

/// The events of one connection.
pub(super) struct Events {
    body: Body,
    lines: Lines,
}

impl Events {
    pub(super) async fn open(client: &Client, id: ReportId) -> Result<Self, ApiError> {
        let response = client.open(&format!("{}/events", path(id))).await?;
        Ok(Self { body: response.into_body(), lines: Lines::default() })
    }

    /// The next event; `None` when the stream has ended.
    pub(super) async fn next(&mut self) -> Result<Option<Event>, ApiError> {
        loop {
            if let Some(event) = self.lines.next_event()? {
                return Ok(Some(event));
            }
            let Some(piece) = next_piece(&mut self.body).await? else { return Ok(None) };
            self.lines.0.extend_from_slice(&piece);
        }
    }
}

/// The bytes received and not yet read.
#[derive(Debug, Default)]
struct Lines(Vec<u8>);

impl Lines {
    /// The next complete event. Each event of the API has one line of data; comments and other
    /// fields are skipped.
    fn next_event(&mut self) -> Result<Option<Event>, ApiError> {
        while let Some(end) = self.0.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.0.drain(..=end).collect();
            if let Some(data) = line.strip_prefix(b"data:") {
                return serde_json::from_slice(data).map(Some).map_err(ApiError::unexpected);
            }
        }
        if self.0.len() > MAX_LINE {
            return Err(ApiError::unexpected("an event is too long"));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_when_its_line_is_complete() {
        let mut lines = Lines::default();
        lines.0.extend_from_slice(b": keep\n\nevent: progress\ndata: {\"state\":\"RUN");
        assert_eq!(lines.next_event().unwrap(), None);
        lines.0.extend_from_slice(
            b"NING\",\"progress\":{\"step\":\"read\",\"done\":2,\"total\":5}}\n\n",
        );
        let event = lines.next_event().unwrap().unwrap();
        assert_eq!(event.state, "RUNNING");
        assert_eq!(event.progress.unwrap().describe(), "read, 2 of 5");
        assert_eq!(lines.next_event().unwrap(), None);
        assert!(lines.0.is_empty() || lines.0 == b"\n");
    }

    #[test]
    fn a_line_without_an_end_is_an_error() {
        let mut lines = Lines(vec![b'x'; MAX_LINE + 1]);
        assert!(lines.next_event().is_err());
    }
}
