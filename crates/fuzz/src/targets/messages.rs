//! Messages at the broker. Each is what it says, or a dead letter with a short reason.

use contract::{
    Command, Job, Kind, TransactionResult,
    bundle::{Bundle, MAX_BYTES, MAX_PARTS},
    dead_letter::{self, Subject},
};

use super::{choice, text};

fn assert_reason(reason: &str) {
    let header = dead_letter::header_text(reason);
    assert!(header.chars().count() <= 1000 && !header.contains(char::is_control), "{header:?}");
}

/// A command is written as it was read.
pub(super) fn commands(input: &[u8]) {
    let Some((choice, body)) = choice(input) else { return };
    let subject = Kind::ALL[choice % 2].command_subject();
    match Command::parse(subject, body) {
        Ok(command) => {
            assert_eq!(command.kind.command_subject(), subject);
            let written = serde_json::to_vec(&command).unwrap();
            assert_eq!(Command::parse(subject, &written), Ok(command));
        }
        Err(invalid) => assert_reason(&invalid.to_string()),
    }
    if let Ok(job) = Job::parse(body) {
        assert_eq!(Job::parse(&serde_json::to_vec(&job).unwrap()).unwrap(), job);
    }
}

/// A result is written as it was read, and its balance has the form of an amount.
pub(super) fn results(input: &[u8]) {
    let Some((choice, body)) = choice(input) else { return };
    let subject = Kind::ALL[choice % 2].result_subject();
    match TransactionResult::parse(subject, body) {
        Ok(result) => {
            assert_eq!(result.kind.result_subject(), subject);
            assert!(result.transaction_id > 0);
            let written = serde_json::to_vec(&result).unwrap();
            assert_eq!(TransactionResult::parse(subject, &written), Ok(result));
            // A field that nobody reads may have bytes that are no text.
            let Ok(json) = serde_json::from_slice::<serde_json::Value>(body) else { return };
            let balance = json["balanceAfter"].as_str().unwrap_or("0");
            let is_plain = |c: char| c.is_ascii_digit() || c == '.';
            assert!(balance.starts_with(|c: char| c.is_ascii_digit()), "{balance:?}");
            assert!(balance.chars().all(is_plain), "{balance:?}");
        }
        Err(invalid) => assert_reason(&invalid.to_string()),
    }
}

/// A bundle has few parts, and each is a part of its message. Commands keep their ids in another
/// bundle.
pub(super) fn bundles(input: &[u8]) {
    let Some((choice, message)) = choice(input) else { return };
    let bundle = [Bundle::Commands, Bundle::Results][choice % 2];
    let parts = match bundle.parse(message) {
        Ok(None) => return,
        Ok(Some(parts)) => parts,
        Err(invalid) => return assert_reason(&invalid.to_string()),
    };
    assert!((1..=MAX_PARTS).contains(&parts.len()) && message.len() <= MAX_BYTES);
    let message = text(message).unwrap();
    let mut writer = Bundle::Commands.writer();
    let mut written = Vec::new();
    for part in parts {
        assert!(message.contains(part.body));
        serde_json::from_str::<serde::de::IgnoredAny>(part.body).unwrap();
        let command = Kind::ALL
            .into_iter()
            .find_map(|kind| Command::parse(kind.command_subject(), part.body.as_bytes()).ok());
        if let Some(command) = command {
            let id = part.message_id.unwrap_or_default();
            writer.add(&id, "00-1", &serde_json::to_vec(&command).unwrap());
            written.push((id, command));
        }
    }
    let body = writer.finish();
    let read = Bundle::Commands.parse(&body);
    if written.is_empty() {
        assert!(read.is_err());
        return;
    }
    let read = read.unwrap().unwrap();
    assert_eq!(read.len(), written.len());
    for (part, (id, command)) in read.into_iter().zip(written) {
        assert_eq!(part.message_id, Some(id));
        let subject = command.kind.command_subject();
        assert_eq!(Command::parse(subject, part.body.as_bytes()), Ok(command));
    }
}

/// The subject of a dead letter is parsed as it was written.
pub(super) fn dead_letters(input: &[u8]) {
    let Some(text) = text(input) else { return };
    assert_reason(text);
    let subject = match Subject::parse(text) {
        None => return,
        Some(Subject::Open { stream, consumer }) => dead_letter::open_subject(stream, consumer),
        Some(Subject::Closed { stream, consumer, sequence, stored }) => {
            dead_letter::closed_subject(stream, consumer, sequence, stored)
        }
    };
    assert_eq!(Subject::parse(&subject), Subject::parse(text), "{text:?}");
}
