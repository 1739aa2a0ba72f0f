//! The form of a message with several commands or results: a bundle.
//!
//! ```json
//! {"commands":[{"messageId":"…","traceparent":"…","recordId":"…", …}, …]}
//! ```
//!
//! Its parts are commands (or results) in their own form, each with its own message
//! id and trace context. A message with one command has that command as its body, and
//! these two in its headers. Whoever publishes may use either form.
//!
//! The cost of a message, in the server and in both services, hardly depends on its
//! size. A commit decides hundreds of commands, so they share messages.

use serde::Deserialize;
use serde_json::value::RawValue;

/// Maximum parts of a bundle. A fetch of ten messages therefore stays a small unit of
/// flow control.
pub const MAX_PARTS: usize = 100;
/// Maximum size of a bundle, in bytes.
pub const MAX_BYTES: usize = 128 * 1024;
/// The least `max_payload` of the broker, in bytes. Below it, a single command, result or dead letter
/// may not fit. From it on, bundles have fewer parts where they need to.
pub const LEAST_MAX_PAYLOAD: usize = 16 * 1024;

/// The content of a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bundle {
    /// The array is named `commands`.
    Commands,
    /// The array is named `results`.
    Results,
}

/// One command or result of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part<'a> {
    /// Its own `Nats-Msg-Id`, if it has one.
    pub message_id: Option<String>,
    /// Its own trace context, if it has one.
    pub traceparent: Option<String>,
    /// The JSON of the command or result. It may be invalid: each part is judged alone.
    pub body: &'a str,
}

/// Why a bundle is invalid as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBundle {
    /// The field is not an array.
    #[error("{field} must be an array: {detail}")]
    NoArray {
        /// `commands` or `results`.
        field: &'static str,
        /// The parser's message.
        detail: String,
    },
    /// The number of parts is out of bounds.
    #[error("{field} must have 1 to {MAX_PARTS} items, not {parts}")]
    Parts {
        /// `commands` or `results`.
        field: &'static str,
        /// The number of parts.
        parts: usize,
    },
    /// The message is too large.
    #[error("a message with several {field} must have at most {MAX_BYTES} bytes, not {bytes}")]
    Bytes {
        /// `commands` or `results`.
        field: &'static str,
        /// The size of the message.
        bytes: usize,
    },
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    commands: Option<&'a RawValue>,
    #[serde(borrow)]
    results: Option<&'a RawValue>,
}

/// The fields of a part beside those of its command or result. A field of another type
/// counts as missing.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Head {
    message_id: Option<Text>,
    traceparent: Option<Text>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Text(String),
    Other(serde::de::IgnoredAny),
}

impl Text {
    fn text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            Self::Other(_) => None,
        }
    }
}

impl Bundle {
    /// The name of the array.
    #[must_use]
    pub const fn field(self) -> &'static str {
        match self {
            Self::Commands => "commands",
            Self::Results => "results",
        }
    }

    /// The parts of a message; `None` if the message is no bundle, but a single command
    /// or result, or unreadable.
    ///
    /// # Errors
    /// [`InvalidBundle`]
    pub fn parse(self, message: &[u8]) -> Result<Option<Vec<Part<'_>>>, InvalidBundle> {
        let Ok(envelope) = serde_json::from_slice::<Envelope<'_>>(message) else { return Ok(None) };
        let array = match self {
            Self::Commands => envelope.commands,
            Self::Results => envelope.results,
        };
        let (field, bytes) = (self.field(), message.len());
        let Some(array) = array else { return Ok(None) };
        if bytes > MAX_BYTES {
            return Err(InvalidBundle::Bytes { field, bytes });
        }
        let bodies: Vec<&RawValue> = serde_json::from_str(array.get())
            .map_err(|error| InvalidBundle::NoArray { field, detail: error.to_string() })?;
        if bodies.is_empty() || bodies.len() > MAX_PARTS {
            return Err(InvalidBundle::Parts { field, parts: bodies.len() });
        }
        Ok(Some(bodies.into_iter().map(|body| Part::of(body.get())).collect()))
    }

    /// Starts the body of a bundle.
    #[must_use]
    pub fn writer(self) -> BundleWriter {
        BundleWriter { body: format!("{{\"{}\":[", self.field()).into(), parts: 0 }
    }
}

impl<'a> Part<'a> {
    fn of(body: &'a str) -> Self {
        let Head { message_id, traceparent } = serde_json::from_str(body).unwrap_or_default();
        let (message_id, traceparent) =
            (message_id.and_then(Text::text), traceparent.and_then(Text::text));
        Self { message_id, traceparent, body }
    }
}

/// Writes the body of a bundle.
#[derive(Debug)]
pub struct BundleWriter {
    body: Vec<u8>,
    parts: usize,
}

impl BundleWriter {
    /// Adds the serialized command or result `body`. A body that is not an object with
    /// fields is left out: no command and no result is one.
    pub fn add(&mut self, message_id: &str, traceparent: &str, body: &[u8]) {
        let Some(fields) = body.strip_prefix(b"{") else { return };
        if self.parts > 0 {
            self.body.push(b',');
        }
        self.parts += 1;
        for (name, value) in [("{\"messageId\":", message_id), (",\"traceparent\":", traceparent)] {
            self.body.extend_from_slice(name.as_bytes());
            // The ids of other publishers come back in results, so they need escapes.
            self.body.extend_from_slice(serde_json::Value::from(value).to_string().as_bytes());
        }
        self.body.push(b',');
        self.body.extend_from_slice(fields);
    }

    /// The finished body.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.body.extend_from_slice(b"]}");
        self.body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(message: &str) -> Result<Option<Vec<Part<'_>>>, InvalidBundle> {
        Bundle::Commands.parse(message.as_bytes())
    }

    #[test]
    fn a_bundle_is_read_as_it_was_written() {
        let mut writer = Bundle::Commands.writer();
        writer.add("a\"\n", "00-1", b"{\"recordId\":1}");
        writer.add("b", "00-2", b"{\"recordId\":2}");
        let body = writer.finish();
        let parts = Bundle::Commands.parse(&body).unwrap().unwrap();
        let ids: Vec<_> = parts.iter().map(|part| part.message_id.as_deref().unwrap()).collect();
        assert_eq!(ids, ["a\"\n", "b"]);
        assert_eq!(parts[1].traceparent.as_deref(), Some("00-2"));
        assert!(parts[1].body.ends_with("\"recordId\":2}"), "{}", parts[1].body);
        assert_eq!(Bundle::Results.parse(&body), Ok(None));
    }

    #[test]
    fn a_single_or_unreadable_message_is_no_bundle() {
        for message in ["{\"recordId\":1}", "{\"commands\":null}", "[]", "5", "{\"commands\":[", ""]
        {
            assert_eq!(parse(message), Ok(None), "{message}");
        }
        assert_eq!(Bundle::Commands.parse(b"\xff"), Ok(None));
    }

    #[test]
    fn a_bundle_out_of_bounds_is_invalid() {
        let many = |parts: usize| format!("{{\"commands\":[{}]}}", vec!["1"; parts].join(","));
        let field = "commands";
        assert_eq!(parse(&many(0)), Err(InvalidBundle::Parts { field, parts: 0 }));
        assert_eq!(parse(&many(100)).unwrap().unwrap().len(), 100);
        assert_eq!(parse(&many(101)), Err(InvalidBundle::Parts { field, parts: 101 }));
        assert!(matches!(parse("{\"commands\":{}}"), Err(InvalidBundle::NoArray { .. })));
        let large = format!("{{\"commands\":[\"{}\"]}}", "x".repeat(MAX_BYTES));
        assert!(matches!(parse(&large), Err(InvalidBundle::Bytes { .. })));
    }

    #[test]
    fn each_part_is_judged_alone() {
        let parts = parse("{\"commands\":[5,{\"messageId\":7,\"traceparent\":\"t\"}]}").unwrap();
        let parts = parts.unwrap();
        assert_eq!(parts[0], Part { message_id: None, traceparent: None, body: "5" });
        assert_eq!(
            (parts[1].message_id.as_ref(), parts[1].traceparent.as_deref()),
            (None, Some("t"))
        );
    }
}
