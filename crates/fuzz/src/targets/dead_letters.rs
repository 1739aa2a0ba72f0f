//! What `passbook dlq` prints of a dead letter.

use async_nats::jetstream::{message::StreamMessage, stream::RawMessage};
use base64::{Engine, engine::general_purpose::STANDARD};
use contract::{Command, RecordId};
use passbook::{
    dead_letter::{
        DeadLetter, KnownRecord, KnownRecords,
        preview::{self, Preview},
    },
    terminal,
};
use time::OffsetDateTime;

/// Nothing moves the cursor, changes colours or turns the direction of text.
fn assert_harmless(text: &str) {
    let is_harmful = |c: char| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    assert!(!text.contains(is_harmful), "{text:?}");
}

/// Lines: the subject, and headers. After an empty line, the body.
fn letter(input: &[u8]) -> Option<DeadLetter> {
    let end = input.windows(2).position(|two| two == b"\n\n").unwrap_or(input.len());
    let (head, body) = (&input[..end], input.get(end + 2..).unwrap_or_default());
    let mut lines = head.split(|byte| *byte == b'\n');
    let subject = str::from_utf8(lines.next()?).ok()?.to_owned();
    let lines: Vec<_> = lines.collect();
    let headers = [b"NATS/1.0\r\n", &lines.join(&b"\r\n"[..])[..], b"\r\n\r\n"].concat();
    let message = RawMessage {
        subject,
        sequence: 7,
        payload: STANDARD.encode(body),
        headers: Some(STANDARD.encode(headers)),
        time: OffsetDateTime::UNIX_EPOCH,
    };
    DeadLetter::parse(StreamMessage::try_from(message).ok()?)
}

/// The pages, tables and previews have no control characters. The body stays on lines of its own.
/// Nothing is published again that no record asks for.
pub(super) fn dead_letter_pages(input: &[u8]) {
    let Some(letter) = letter(input) else { return };
    let page = letter.page();
    assert_harmless(&page);
    let body = letter.body();
    // At least its id and its time.
    assert!(page.ends_with('\n') && page.lines().count() >= 3 + body.split('\n').count());
    assert_harmless(&terminal::table(&["ID", "REASON"], [letter.row()]));
    let json = terminal::json(&letter.view()).unwrap();
    assert_harmless(&json);
    let read: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(read, serde_json::to_value(letter.view()).unwrap());
    assert_eq!(read["body"], *body);

    let mut known = KnownRecords::default();
    assert_harmless(&terminal::escape(&preview::record_state(&letter, &known)));
    let of_unknown = preview::of(&letter, &known);
    let text = match &of_unknown {
        Preview::Processed(text) | Preview::DeadLetteredAgain(text) | Preview::Harmful(text) => {
            text
        }
    };
    assert_harmless(&terminal::escape(text));
    let subject = letter.subject().unwrap_or_default();
    let is_bundle = letter.records.len() != 1;
    let Ok(command) = Command::parse(subject, &letter.payload) else {
        let is_movement = contract::Kind::ALL
            .into_iter()
            .any(|kind| subject == kind.command_subject() || subject == kind.result_subject());
        assert!(!is_movement || !matches!(of_unknown, Preview::Processed(_)), "{of_unknown:?}");
        return;
    };
    assert!(!is_bundle && matches!(of_unknown, Preview::Harmful(_)), "{of_unknown:?}");
    let mut insert = |id: RecordId| {
        let record = KnownRecord { movement: command.movement(), settlement: None };
        known.records.insert(id, record);
        preview::of(&letter, &known)
    };
    assert!(matches!(insert(RecordId::new()), Preview::Harmful(_)));
    assert!(matches!(insert(command.record_id), Preview::Processed(_)));
}
