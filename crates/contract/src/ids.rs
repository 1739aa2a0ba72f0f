//! Typed ids: one type per entity, so that the compiler rejects an account id in
//! place of a record id.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

/// A text is not a valid id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseIdError {
    /// Not a UUID in its hyphenated form of 36 characters.
    #[error("must be a UUID, such as 0199d4a2-7c1e-7b7a-9a55-3f1d8f6f2c11")]
    NotAUuid,
    /// Not 1 to 255 visible ASCII characters.
    #[error("must be 1 to 255 visible ASCII characters")]
    NotVisible,
}

fn parse_uuid(text: &str) -> Result<Uuid, ParseIdError> {
    // `Uuid::parse_str` also accepts braces, `urn:uuid:` and 32 digits without hyphens. Capitals
    // are accepted, as RFC 9562 (section 4) wants it. Ids are written in lowercase only, so that
    // they can be compared and searched as text.
    if text.len() == 36 {
        Uuid::parse_str(text).map_err(|_| ParseIdError::NotAUuid)
    } else {
        Err(ParseIdError::NotAUuid)
    }
}

struct IdVisitor;

impl de::Visitor<'_> for IdVisitor {
    type Value = Uuid;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a UUID")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Uuid, E> {
        parse_uuid(text).map_err(E::custom)
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id (UUIDv7). Ids are ordered by time, to the millisecond.
            #[must_use]
            #[allow(clippy::new_without_default)]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// The id of a UUID column.
            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The id as a UUID, for a column.
            #[must_use]
            pub const fn as_uuid(self) -> Uuid {
                self.0
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_uuid(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut text = Uuid::encode_buffer();
                serializer.serialize_str(self.0.hyphenated().encode_lower(&mut text))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(IdVisitor).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

uuid_id! {
    /// Identifies an account, in both services.
    AccountId
}

uuid_id! {
    /// Identifies one request to move money. Its effect happens once under this id.
    RecordId
}

uuid_id! {
    /// Identifies one report.
    ReportId
}

uuid_id! {
    /// Identifies an API key. It is no secret.
    ApiKeyId
}

uuid_id! {
    /// Identifies an entry of the audit log.
    AuditEntryId
}

uuid_id! {
    /// Identifies a webhook endpoint.
    WebhookEndpointId
}

impl RecordId {
    /// The lowest id.
    pub const FIRST: Self = Self(Uuid::nil());

    /// The next value, to continue after this id.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(Uuid::from_u128(self.0.as_u128().saturating_add(1)))
    }

    /// The creation time in the id, in whole milliseconds.
    #[must_use]
    pub fn made_at(self) -> SystemTime {
        let millis = u64::try_from(self.0.as_u128() >> 80).unwrap_or(u64::MAX);
        SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
    }

    /// The lowest id with the creation time `time`, in whole milliseconds. Ids of
    /// earlier milliseconds sort before it.
    #[must_use]
    pub fn lowest_at(time: SystemTime) -> Self {
        let millis = time
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &[0; 10]).into_uuid())
    }
}

/// The user behind a request: the subject of the bearer token, 1 to 255 visible
/// ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserId(String);

impl UserId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for UserId {
    type Error = ParseIdError;

    fn try_from(text: String) -> Result<Self, ParseIdError> {
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        if (1..=255).contains(&text.len()) && visible {
            Ok(Self(text))
        } else {
            Err(ParseIdError::NotVisible)
        }
    }
}

impl From<UserId> for String {
    fn from(id: UserId) -> Self {
        id.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_id_is_read_in_any_case_and_written_in_lowercase() {
        let id = RecordId::new();
        assert_eq!(id.to_string().parse(), Ok(id));
        let capitals = "0199D4A2-7C1E-7B7A-9A55-3F1D8F6F2C11";
        let id: RecordId = capitals.parse().unwrap();
        assert_eq!(id.to_string(), capitals.to_lowercase());
        for other in [
            "",
            "1",
            "0199d4a27c1e7b7a9a553f1d8f6f2c11",
            "{0199d4a2-7c1e-7b7a-9a55-3f1d8f6f2c11}",
            "urn:uuid:0199d4a2-7c1e-7b7a-9a55-3f1d8f6f2c11",
            "0199d4a2-7c1e-7b7a-9a55-3f1d8f6f2c1g",
        ] {
            assert_eq!(other.parse::<RecordId>(), Err(ParseIdError::NotAUuid), "{other}");
        }
    }

    #[test]
    fn a_record_id_contains_its_creation_time() {
        let (before, id) = (SystemTime::now(), RecordId::new());
        let millisecond = Duration::from_millis(1);
        assert!(id.made_at() + millisecond >= before && id.made_at() <= SystemTime::now());
        assert_eq!(RecordId::lowest_at(id.made_at()).made_at(), id.made_at());
    }

    #[test]
    fn the_lowest_id_of_a_time_is_between_earlier_and_later_ids() {
        let before = RecordId::new();
        let mark = RecordId::lowest_at(SystemTime::now() + Duration::from_millis(1));
        std::thread::sleep(Duration::from_millis(3));
        let after = RecordId::new();
        assert!(before < mark && mark <= after);
    }
}
