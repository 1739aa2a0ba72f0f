//! The ids of events, which are also the cursors of the log.
//!
//! An id hides the position of its event: positions count the events of all accounts. It is a
//! digest of the event under a secret key, and the position, masked by a digest of that digest
//! (the construction of AES-SIV, RFC 5297). So it is the same for the same event, on every
//! replica, and a changed one is not valid. The key is in the database. A restored or promoted
//! database that has lost the event may give its position to another one: its id is another.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use contract::UserId;
use ring::hmac::{HMAC_SHA256, Key, sign};

use super::LoggedEvent;

/// Bytes of the digest in an id.
const TAG: usize = 16;

/// Makes and reads ids.
#[derive(Debug)]
pub struct EventIds(Key);

/// An id that was read, until it is compared with its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claimed {
    tag: [u8; TAG],
    /// The position of the event, if the id is valid. 0: before the first event.
    pub position: i64,
}

impl EventIds {
    /// Ids under this key.
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        Self(Key::new(HMAC_SHA256, key))
    }

    /// The id of an event.
    #[must_use]
    pub fn id(&self, event: &LoggedEvent) -> String {
        self.encode(self.tag(event), event.position)
    }

    /// The cursor before the first event.
    #[must_use]
    pub fn origin(&self) -> String {
        self.encode(self.tag_of_origin(), 0)
    }

    /// The cursor behind an event of others, for this reader alone.
    #[must_use]
    pub fn cursor_of(&self, reader: &UserId, event: &LoggedEvent) -> String {
        self.encode(self.tag_for(reader, event), event.position)
    }

    /// Reads an id. `None` if it does not have the form of one.
    #[must_use]
    pub fn read(&self, id: &str) -> Option<Claimed> {
        let bytes = URL_SAFE_NO_PAD.decode(id).ok()?;
        let (tag, masked) = bytes.split_first_chunk::<TAG>()?;
        let masked = i64::from_be_bytes(masked.try_into().ok()?);
        Some(Claimed { tag: *tag, position: masked ^ self.mask(tag) })
    }

    /// Whether the id is that of this event.
    #[must_use]
    pub fn is_of(&self, claimed: Claimed, event: &LoggedEvent) -> bool {
        claimed.position == event.position && claimed.tag == self.tag(event)
    }

    /// Whether it is [`EventIds::cursor_of`] this reader and event.
    #[must_use]
    pub fn is_cursor_of(&self, claimed: Claimed, reader: &UserId, event: &LoggedEvent) -> bool {
        claimed.position == event.position && claimed.tag == self.tag_for(reader, event)
    }

    /// Whether the id is [`EventIds::origin`].
    #[must_use]
    pub fn is_origin(&self, claimed: Claimed) -> bool {
        claimed.position == 0 && claimed.tag == self.tag_of_origin()
    }

    fn encode(&self, tag: [u8; TAG], position: i64) -> String {
        let masked = (position ^ self.mask(&tag)).to_be_bytes();
        URL_SAFE_NO_PAD.encode([&tag[..], &masked].concat())
    }

    fn tag(&self, event: &LoggedEvent) -> [u8; TAG] {
        self.digest(&[&b"event"[..], &content(event)].concat())
    }

    fn tag_for(&self, reader: &UserId, event: &LoggedEvent) -> [u8; TAG] {
        self.digest(&[&b"cursor"[..], &content(event), reader.as_str().as_bytes()].concat())
    }

    fn tag_of_origin(&self) -> [u8; TAG] {
        self.digest(b"origin")
    }

    fn mask(&self, tag: &[u8; TAG]) -> i64 {
        let mask: [u8; 8] = self.digest(&[&b"mask"[..], tag].concat());
        i64::from_be_bytes(mask)
    }

    fn digest<const N: usize>(&self, content: &[u8]) -> [u8; N] {
        let mut start = [0; N];
        for (to, from) in start.iter_mut().zip(sign(&self.0, content).as_ref()) {
            *to = *from;
        }
        start
    }
}

/// What tells an event from others, in a form of one length.
fn content(event: &LoggedEvent) -> Vec<u8> {
    let (account, time) = (event.account.as_uuid(), event.created_at.unix_timestamp_nanos());
    let parts = [
        &event.position.to_be_bytes()[..],
        account.as_bytes(),
        &event.sequence.to_be_bytes(),
        &time.to_be_bytes(),
    ];
    parts.concat()
}

#[cfg(test)]
mod tests {
    use contract::AccountId;
    use time::OffsetDateTime;

    use super::*;
    use crate::events::EventKind;

    fn event(position: i64) -> LoggedEvent {
        LoggedEvent {
            position,
            sequence: 3,
            kind: EventKind::AccountCreated,
            account: AccountId::from_uuid(uuid::Uuid::from_u128(7)),
            owner: UserId::try_from("ann".to_owned()).unwrap(),
            record: None,
            created_at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn an_id_is_that_of_one_event_under_one_key() {
        let (ids, others) = (EventIds::new(&[1; 32]), EventIds::new(&[2; 32]));
        let event = event(7_000_000);
        let id = ids.id(&event);
        assert_eq!(id.len(), 32);
        let claimed = ids.read(&id).unwrap();
        assert_eq!(claimed.position, 7_000_000);
        assert!(ids.is_of(claimed, &event) && !ids.is_origin(claimed));
        let later =
            LoggedEvent { created_at: event.created_at + time::Duration::SECOND, ..event.clone() };
        assert!(!ids.is_of(claimed, &later));
        assert!(!others.is_of(others.read(&id).unwrap(), &event));
        assert_ne!(others.id(&event), id);
        let origin = ids.read(&ids.origin()).unwrap();
        assert!(ids.is_origin(origin) && !ids.is_of(origin, &event));
        assert!(!ids.is_origin(others.read(&ids.origin()).unwrap()));
    }

    #[test]
    fn a_cursor_is_that_of_one_reader_and_event() {
        let ids = EventIds::new(&[1; 32]);
        let [ann, ben] = ["ann", "ben"].map(|name| UserId::try_from(name.to_owned()).unwrap());
        let (one, next) = (event(7), event(8));
        let claimed = ids.read(&ids.cursor_of(&ann, &one)).unwrap();
        assert!(ids.is_cursor_of(claimed, &ann, &one));
        assert!(!ids.is_cursor_of(claimed, &ben, &one) && !ids.is_cursor_of(claimed, &ann, &next));
        assert!(!ids.is_of(claimed, &one));
        assert!(!ids.is_cursor_of(ids.read(&ids.id(&one)).unwrap(), &ann, &one));
    }

    #[test]
    fn neighbours_have_ids_without_a_common_part() {
        let ids = EventIds::new(&[1; 32]);
        let (one, next) = (ids.id(&event(1)), ids.id(&event(2)));
        assert_ne!(one[..8], next[..8]);
        assert_ne!(one[24..], next[24..]);
    }

    #[test]
    fn other_text_is_no_id() {
        let ids = EventIds::new(&[1; 32]);
        let id = ids.id(&event(1));
        for text in ["", "x", "1", &id[1..], &format!("{id}AAAA"), &format!("{id}="), "latest"] {
            assert_eq!(ids.read(text), None, "{text}");
        }
        let changed = format!("{}A", &id[..31]);
        let other = format!("{}B", &id[..31]);
        for text in [changed, other].iter().filter(|text| **text != id) {
            assert!(!ids.is_of(ids.read(text).unwrap(), &event(1)), "{text}");
        }
    }
}
