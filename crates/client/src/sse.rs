//! Decodes server-sent events, by the HTML standard (section 9.2.6).
//!
//! By hand: the crates for it read an event of any length into memory.

use std::{collections::VecDeque, mem, time::Duration};

/// The longest event, in bytes.
const LONGEST: usize = 1 << 20;

/// An event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// The field `event`.
    pub event: String,
    /// The fields `data`, joined by line breaks.
    pub data: String,
    /// The last id so far.
    pub id: String,
}

/// An event is longer than 1 MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event is longer than {LONGEST} bytes")]
pub struct TooLong;

/// Decodes the bytes of one response.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The incomplete line.
    line: Vec<u8>,
    /// Whether the last byte was `\r`: the line feed after it ends no other line.
    after_return: bool,
    /// Whether a line is complete: only the first may begin with a byte order mark.
    begun: bool,
    message: Message,
    has_data: bool,
    complete: VecDeque<Message>,
    /// The id at the end of the last complete block.
    last_id: String,
    retry: Option<Duration>,
}

impl Decoder {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`TooLong`]: leave the stream.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        for byte in bytes {
            let ends_return = mem::take(&mut self.after_return) && *byte == b'\n';
            match byte {
                b'\n' if ends_return => {}
                b'\n' | b'\r' => {
                    self.after_return = *byte == b'\r';
                    self.end_line();
                }
                _ if self.line.len() + self.message.data.len() >= LONGEST => return Err(TooLong),
                _ => self.line.push(*byte),
            }
        }
        Ok(())
    }

    /// The next complete event.
    pub fn next_message(&mut self) -> Option<Message> {
        self.complete.pop_front()
    }

    /// The last id so far, also of a block without data: that is no event, but a new connection goes
    /// on after it. `None` while there are complete events to take: it is behind them.
    #[must_use]
    pub fn last_id(&self) -> Option<&str> {
        let is_known = self.complete.is_empty() && !self.last_id.is_empty();
        is_known.then_some(self.last_id.as_str())
    }

    /// The pause before a new connection, as the server wants it.
    #[must_use]
    pub const fn retry(&self) -> Option<Duration> {
        self.retry
    }

    fn end_line(&mut self) {
        let line = mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        let begun = mem::replace(&mut self.begun, true);
        let line = if begun { &line } else { line.strip_prefix('\u{feff}').unwrap_or(&line) };
        if line.is_empty() {
            self.end_message();
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.message.event),
            "data" => {
                if mem::replace(&mut self.has_data, true) {
                    self.message.data.push('\n');
                }
                self.message.data.push_str(value);
            }
            "id" if !value.contains('\0') => value.clone_into(&mut self.message.id),
            // A number with a sign is a number for `parse`, but not in the standard.
            "retry" if value.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.retry = value.parse().ok().map(Duration::from_millis).or(self.retry);
            }
            // A comment, or a field of a later standard.
            _ => {}
        }
    }

    fn end_message(&mut self) {
        self.last_id.clone_from(&self.message.id);
        let next = Message { id: self.message.id.clone(), ..Message::default() };
        let message = mem::replace(&mut self.message, next);
        if mem::take(&mut self.has_data) {
            self.complete.push_back(message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(event: &str, data: &str, id: &str) -> Message {
        Message { event: event.into(), data: data.into(), id: id.into() }
    }

    fn decode(text: &str, piece: usize) -> Vec<Message> {
        let mut decoder = Decoder::default();
        text.as_bytes().chunks(piece).for_each(|bytes| decoder.push(bytes).unwrap());
        std::iter::from_fn(|| decoder.next_message()).collect()
    }

    #[test]
    fn events_are_the_same_in_pieces_of_any_size_and_with_each_line_end() {
        let text = "\u{feff}retry: 2000\n\n: comment\n\nevent: a\ndata: {\"b\":1}\nid: 7\n\n\
                    data:one\ndata:  two\ndata\nother: x\n\nid\ndata: é\n\nevent: none\n\ndata: open";
        let expected =
            [message("a", "{\"b\":1}", "7"), message("", "one\n two\n", "7"), message("", "é", "")];
        for end in ["\n", "\r\n", "\r"] {
            for piece in 1..9 {
                assert_eq!(decode(&text.replace('\n', end), piece), expected, "{end:?} {piece}");
            }
        }
        let mut decoder = Decoder::default();
        decoder.push(b"retry: 2000\nretry: soon\nretry: +5\n").unwrap();
        assert_eq!(decoder.retry(), Some(Duration::from_secs(2)));
    }

    #[test]
    fn an_id_without_data_counts_once_the_events_before_it_are_taken() {
        let mut decoder = Decoder::default();
        decoder.push(b":\n\nid: 1\n").unwrap();
        assert_eq!(decoder.last_id(), None);
        decoder.push(b"data: a\n\nid: 2\n\nid: 3\n").unwrap();
        assert_eq!(decoder.last_id(), None);
        assert_eq!(decoder.next_message(), Some(message("", "a", "1")));
        assert_eq!((decoder.next_message(), decoder.last_id()), (None, Some("2")));
        decoder.push(b"\n").unwrap();
        assert_eq!((decoder.next_message(), decoder.last_id()), (None, Some("3")));
    }

    #[test]
    fn an_event_without_an_end_is_refused() {
        let mut decoder = Decoder::default();
        let piece = [b'x'; 1024];
        let pieces = std::iter::repeat_with(|| decoder.push(&piece));
        let pieces = pieces.take_while(Result::is_ok).count();
        assert_eq!(pieces, LONGEST / piece.len());
        let mut decoder = Decoder::default();
        let line = [b"data: ".as_slice(), &piece, b"\n"].concat();
        let mut lines = std::iter::repeat_with(|| decoder.push(&line)).take(2 * 1024);
        assert!(lines.any(|result| result.is_err()));
    }
}
