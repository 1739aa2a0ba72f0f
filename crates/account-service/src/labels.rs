//! What a client calls a movement or an account. No service reads a meaning into it.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

/// The reason why a text is no label, as a part of a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// Shorter or longer than it may be.
    #[error("must be {least} to {most} characters")]
    Length {
        /// Minimum characters.
        least: usize,
        /// Maximum characters.
        most: usize,
    },
    /// It has a character that is not text.
    #[error("must not have control characters")]
    Control,
    /// It has one that is not text and no line break or tab.
    #[error("must not have control characters, except line breaks and tabs")]
    ControlInText,
    /// An entry of metadata has an invalid key.
    #[error("must have keys of 1 to {} characters without control characters", Metadata::MAX_KEY)]
    Key,
    /// An entry of metadata has an invalid value.
    #[error("{reason}")]
    Value {
        /// The key of the entry.
        key: String,
        /// What is wrong with its value.
        reason: Box<LabelError>,
    },
    /// Metadata has too many entries.
    #[error("must have at most {} entries", Metadata::MAX_ENTRIES)]
    Entries,
    /// The keys and values of metadata are too long together.
    #[error("must have at most {} bytes of keys and values in UTF-8", Metadata::MAX_BYTES)]
    Bytes,
}

/// The client's own name for a movement or an account, such as the number of an invoice. It need
/// not be unique. 1 to 255 characters, without control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference(String);

impl Reference {
    pub const MAX: usize = 255;

    /// The reference as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Reference {
    type Error = LabelError;

    fn try_from(text: String) -> Result<Self, LabelError> {
        check_length(&text, 1, Self::MAX)?;
        if text.chars().any(char::is_control) {
            return Err(LabelError::Control);
        }
        Ok(Self(text))
    }
}

/// A note of the client about a movement. 1 to 1,000 characters, without control characters
/// except line breaks and tabs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description(String);

impl Description {
    pub const MAX: usize = 1000;

    /// The description as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Description {
    type Error = LabelError;

    fn try_from(text: String) -> Result<Self, LabelError> {
        check_text(&text, 1, Self::MAX)?;
        Ok(Self(text))
    }
}

/// Entries of the client's own. The order of the keys means nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata(BTreeMap<String, String>);

impl Metadata {
    pub const MAX_ENTRIES: usize = 50;
    /// Maximum characters of a key.
    pub const MAX_KEY: usize = 40;
    /// Maximum characters of a value.
    pub const MAX_VALUE: usize = 500;
    /// Maximum bytes of all keys and values, so that rows and batches stay small.
    pub const MAX_BYTES: usize = 4096;

    /// The entries, sorted by their keys.
    #[must_use]
    pub const fn entries(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

impl TryFrom<BTreeMap<String, String>> for Metadata {
    type Error = LabelError;

    fn try_from(entries: BTreeMap<String, String>) -> Result<Self, LabelError> {
        if entries.len() > Self::MAX_ENTRIES {
            return Err(LabelError::Entries);
        }
        for (key, value) in &entries {
            if check_length(key, 1, Self::MAX_KEY).is_err() || key.chars().any(char::is_control) {
                return Err(LabelError::Key);
            }
            check_text(value, 0, Self::MAX_VALUE).map_err(|reason| LabelError::Value {
                key: key.clone(),
                reason: Box::new(reason),
            })?;
        }
        if entries.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>()
            > Self::MAX_BYTES
        {
            return Err(LabelError::Bytes);
        }
        Ok(Self(entries))
    }
}

/// The labels of a movement or an account. Most have none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    pub reference: Option<Reference>,
    /// `None` for an account.
    pub description: Option<Description>,
    pub metadata: Metadata,
}

impl Labels {
    /// Adds the labels to the hash of a request. A request without labels keeps the hash that it
    /// had before there were any. Each part has its length before it, so that no two sets of
    /// labels add the same bytes.
    pub(crate) fn add_to(&self, hash: &mut Sha256) {
        let Self { reference, description, metadata: Metadata(metadata) } = self;
        if reference.is_none() && description.is_none() && metadata.is_empty() {
            return;
        }
        let mut add = |part: &str| {
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(part);
        };
        // Neither is empty if it is there.
        add(reference.as_ref().map_or("", Reference::as_str));
        add(description.as_ref().map_or("", Description::as_str));
        for (key, value) in metadata {
            add(key);
            add(value);
        }
    }
}

fn check_length(text: &str, least: usize, most: usize) -> Result<(), LabelError> {
    let is_long_enough = text.len() >= least;
    // A character has four bytes at most.
    let is_short_enough = text.len() <= most || text.chars().nth(most).is_none();
    (is_long_enough && is_short_enough).then_some(()).ok_or(LabelError::Length { least, most })
}

fn check_text(text: &str, least: usize, most: usize) -> Result<(), LabelError> {
    check_length(text, least, most)?;
    let is_text = |character: char| !character.is_control() || "\n\r\t".contains(character);
    text.chars().all(is_text).then_some(()).ok_or(LabelError::ControlInText)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(entries: &[(&str, &str)]) -> Result<Metadata, LabelError> {
        let entries = entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        entries.collect::<BTreeMap<_, _>>().try_into()
    }

    #[test]
    fn labels_are_bounded_text() {
        let reference = |text: &str| Reference::try_from(text.to_owned());
        let description = |text: &str| Description::try_from(text.to_owned());
        assert!(reference(&"\u{1f600}".repeat(255)).is_ok());
        assert!(description("two\r\n\tlines").is_ok());
        assert_eq!(reference(""), Err(LabelError::Length { least: 1, most: 255 }));
        assert_eq!(reference(&"\u{e9}".repeat(256)).unwrap_err(), reference("").unwrap_err());
        for control in ["a\nb", "\0", "\u{7f}", "\u{85}"] {
            assert_eq!(reference(control), Err(LabelError::Control), "{control:?}");
        }
        for control in ["a\0", "\u{1b}[31m"] {
            assert_eq!(description(control), Err(LabelError::ControlInText), "{control:?}");
        }
        assert!(description(&"x".repeat(1001)).is_err());

        let long = "x".repeat(500);
        assert!(metadata(&[("k", ""), ("l", &long)]).is_ok());
        assert_eq!(metadata(&[("", "x")]), Err(LabelError::Key));
        assert_eq!(metadata(&[(&"k".repeat(41), "x")]), Err(LabelError::Key));
        assert_eq!(metadata(&[("a\nb", "x")]), Err(LabelError::Key));
        let too_long = metadata(&[("a", "x"), ("b", &format!("{long}x"))]);
        assert!(matches!(too_long, Err(LabelError::Value { key, .. }) if key == "b"));
        let names: Vec<_> = (0..51).map(|number| number.to_string()).collect();
        let many: Vec<_> = names.iter().map(|name| (name.as_str(), "")).collect();
        assert!(metadata(&many[..50]).is_ok());
        assert_eq!(metadata(&many), Err(LabelError::Entries));
        let large: Vec<_> = names[..9].iter().map(|name| (name.as_str(), long.as_str())).collect();
        assert_eq!(metadata(&large), Err(LabelError::Bytes));
    }

    #[test]
    fn other_labels_are_another_request() {
        let hash = |labels: &Labels| {
            let mut hash = Sha256::new_with_prefix("DEPOSIT 1 KRW");
            labels.add_to(&mut hash);
            hash.finalize()
        };
        let none = Labels::default();
        assert_eq!(hash(&none), Sha256::digest("DEPOSIT 1 KRW"));
        let reference = Reference::try_from("a".to_owned()).ok();
        let description = Description::try_from("a".to_owned()).ok();
        let all = [
            none.clone(),
            Labels { reference: reference.clone(), ..none.clone() },
            Labels { description: description.clone(), ..none.clone() },
            Labels { reference, description, ..none.clone() },
            Labels { metadata: metadata(&[("a", "")]).unwrap(), ..none.clone() },
            Labels { metadata: metadata(&[("a", "b")]).unwrap(), ..none.clone() },
            Labels { metadata: metadata(&[("a", ""), ("b", "")]).unwrap(), ..none },
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(all[..at].iter().all(|other| hash(other) != hash(one)), "{one:?}");
        }
    }
}
