//! Answers of any length: piece by piece, and event by event.

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderMap,
    header::{CONTENT_DISPOSITION, CONTENT_TYPE},
};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::{
    Answer, Cause, Client, Error, Request,
    sse::{Decoder, Message},
};

/// Three times the interval of the comments in a stream of events.
const LONGEST_SILENCE: Duration = Duration::from_secs(45);
/// The longest body of a refusal.
const LONGEST_PROBLEM: usize = 64 << 10;

/// A successful answer whose body arrives piece by piece.
#[derive(Debug)]
pub struct Pieces {
    headers: HeaderMap,
    body: Incoming,
}

impl Pieces {
    /// The name of the file in the headers, if it is only a name: a server can't choose a folder or
    /// a hidden file.
    #[must_use]
    pub fn file_name(&self) -> Option<&str> {
        file_name(&self.headers)
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// The connection broke, or nothing arrived for 45 s.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let frame = timeout(LONGEST_SILENCE, self.body.frame()).await;
            let frame = frame.map_err(|_| Error::new(Cause::Timeout(LONGEST_SILENCE)))?;
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|error| Error::new(Cause::NoAnswer(error.into())))?;
            if let Ok(bytes) = frame.into_data() {
                return Ok(Some(bytes));
            }
        }
    }
}

impl Client {
    /// Sends a request once, and gives the successful answer while its body arrives.
    ///
    /// # Errors
    /// The request is refused, or there is no answer.
    pub async fn stream(&self, request: &Request) -> Result<Pieces, Error> {
        let (head, body) = self.open(request).await?.into_parts();
        if head.status.is_success() {
            return Ok(Pieces { headers: head.headers, body });
        }
        let body = timeout(self.timeout(), Limited::new(body, LONGEST_PROBLEM).collect()).await;
        let body = body.map_err(|_| Error::new(Cause::Timeout(self.timeout())))?;
        let body = body.map_err(|error| Error::new(Cause::NoAnswer(error)))?.to_bytes();
        Err(Answer { status: head.status, headers: head.headers, body }.refusal())
    }
}

/// A stream of events, over one connection.
#[derive(Debug)]
pub(crate) struct Events {
    pieces: Pieces,
    decoder: Decoder,
}

impl Events {
    pub(crate) async fn open(client: &Client, request: &Request) -> Result<Self, Error> {
        let pieces = client.stream(request).await?;
        let media_type = pieces.headers.get(CONTENT_TYPE).map(http::HeaderValue::as_bytes);
        if !media_type.is_some_and(|media_type| media_type.starts_with(b"text/event-stream")) {
            return Err(Error::new(Cause::UnexpectedAnswer("it is no event stream".to_owned())));
        }
        Ok(Self { pieces, decoder: Decoder::default() })
    }

    /// The next message; `None` at the end. A call that is dropped before its end loses none.
    pub(crate) async fn next(&mut self) -> Result<Option<Message>, Error> {
        loop {
            if let Some(message) = self.decoder.next_message() {
                return Ok(Some(message));
            }
            let Some(bytes) = self.pieces.next().await? else { return Ok(None) };
            let decoded = self.decoder.push(&bytes);
            decoded.map_err(|error| Error::new(Cause::UnexpectedAnswer(error.to_string())))?;
        }
    }

    /// The id after which a new connection goes on; `None` if there is none, or messages wait.
    pub(crate) fn last_id(&self) -> Option<&str> {
        self.decoder.last_id()
    }

    /// The pause before a new connection, as the server wants it.
    pub(crate) const fn pause(&self) -> Option<Duration> {
        self.decoder.retry()
    }
}

fn file_name(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(CONTENT_DISPOSITION)?.to_str().ok()?;
    let (_, rest) = value.split_once("filename=\"")?;
    let (name, _) = rest.split_once('"')?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let is_name = !name.is_empty() && !name.starts_with('.') && name.len() <= 200;
    (is_name && name.chars().all(is_plain)).then_some(name)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_server_names_a_file_and_no_folder() {
        let name = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_DISPOSITION, HeaderValue::try_from(value).unwrap());
            file_name(&headers).map(str::to_owned)
        };
        let right = name("attachment; filename=\"statement-1_2026.pdf\"");
        assert_eq!(right.as_deref(), Some("statement-1_2026.pdf"));
        for wrong in ["../x", "/etc/x", ".profile", "a b", ""] {
            assert_eq!(name(&format!("attachment; filename=\"{wrong}\"")), None, "{wrong}");
        }
        assert_eq!(name("attachment"), None);
    }
}
