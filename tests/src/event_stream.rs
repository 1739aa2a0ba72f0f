//! A reader of server-sent events.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;
use tokio::time::timeout;

/// The events of one response.
#[derive(Debug)]
pub struct EventStream {
    body: Incoming,
    received: Vec<u8>,
}

impl EventStream {
    #[must_use]
    pub const fn new(body: Incoming) -> Self {
        Self { body, received: Vec::new() }
    }

    /// The next event. `None` at the end of the response, and if the connection is lost.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            let block = self.next_block().await?;
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
            let Some(data) = field("data: ") else { continue };
            let event: Value = serde_json::from_str(data).unwrap();
            assert_eq!(field("id: "), event["id"].as_str(), "{block}");
            return Some(event);
        }
    }

    /// The next event, or `None` after this time.
    pub async fn next_within(&mut self, limit: Duration) -> Option<Value> {
        timeout(limit, self.next()).await.ok().flatten()
    }

    /// Waits until the response ends.
    pub async fn ended(&mut self) {
        while self.next_block().await.is_some() {}
    }

    /// The next lines up to an empty one: an event, a comment or another field.
    pub async fn next_block(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.received.windows(2).position(|bytes| bytes == b"\n\n") {
                let block = self.received.drain(..end + 2).collect();
                return Some(String::from_utf8(block).unwrap());
            }
            let frame = self.body.frame().await?.ok()?;
            self.received.extend_from_slice(frame.data_ref().map_or(&[][..], |bytes| bytes));
        }
    }
}
