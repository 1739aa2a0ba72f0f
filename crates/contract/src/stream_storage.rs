//! The storage of the streams: one total, divided into fixed shares. The shares add up to
//! the total, so a server with room for the total has room for each stream, and a full
//! stream takes nothing from the others.
//!
//! The stream of results has half of it. It discards its oldest messages: if one of them was
//! not read, the redrive of its record makes the ledger publish the result again. Every
//! other stream holds messages that exist nowhere else or cost work to make again, and
//! rejects new ones when it is full.

/// The total storage of all streams, in bytes of one replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamStorage(u64);

/// Not a size, or out of bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a size is 16MiB to 64TiB, such as 512MiB, 8GiB or 1TiB, not {0:?}")]
pub struct InvalidStorage(String);

/// The variable of the total. Whatever creates, changes or checks streams reads it.
pub const STREAM_STORAGE_VARIABLE: &str = "PASSBOOK_STREAM_STORAGE";

const MIB: u64 = 1 << 20;
/// The smallest total: an eighth of it, for the dead letters, has room for a message of the
/// server's default limit, 1 MiB.
const LEAST: u64 = 16 * MIB;
const MOST: u64 = 64 << 40;
/// The shares are sixteenths.
const PARTS: u64 = 16;

impl StreamStorage {
    /// The total without any setting: 8 GiB.
    pub const DEFAULT: Self = Self(8 << 30);
    /// [`Self::DEFAULT`], as [`Self::parse`] reads it.
    pub const DEFAULT_TEXT: &'static str = "8GiB";

    /// Parses a total: `512MiB`, `8GiB`.
    ///
    /// # Errors
    /// If it has no such form, or is out of bounds.
    pub fn parse(text: &str) -> Result<Self, InvalidStorage> {
        let invalid = || InvalidStorage(text.to_owned());
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match text.strip_prefix(digits) {
            Some("MiB") => MIB,
            Some("GiB") => MIB << 10,
            Some("TiB") => MIB << 20,
            _ => return Err(invalid()),
        };
        let number = digits.bytes().all(|c| c.is_ascii_digit()).then(|| digits.parse::<u64>().ok());
        let total = number.flatten().and_then(|number| number.checked_mul(unit));
        total.filter(|total| (LEAST..=MOST).contains(total)).map(Self).ok_or_else(invalid)
    }

    /// The total, in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Of commands: 4 of 16.
    pub(crate) const fn commands(self) -> u64 {
        self.0 / PARTS * 4
    }

    /// Of results: 8 of 16.
    pub(crate) const fn results(self) -> u64 {
        self.0 / PARTS * 8
    }

    /// Of dead letters: 2 of 16.
    pub(crate) const fn dead_letters(self) -> u64 {
        self.0 / PARTS * 2
    }

    /// Of report jobs: 1 of 16.
    pub(crate) const fn jobs(self) -> u64 {
        self.0 / PARTS
    }

    /// Of advisories: 1 of 16.
    pub(crate) const fn advisories(self) -> u64 {
        self.0 / PARTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ReportQueue, Topology, WhenFull};

    #[test]
    fn a_size_has_a_unit_and_bounds() {
        for (text, bytes) in [("16MiB", 16 << 20), ("8GiB", 8 << 30), ("64TiB", 64 << 40)] {
            assert_eq!(StreamStorage::parse(text).map(StreamStorage::bytes), Ok(bytes));
        }
        assert_eq!(StreamStorage::parse(StreamStorage::DEFAULT_TEXT), Ok(StreamStorage::DEFAULT));
        for text in ["", "8", "GiB", "8GB", "8 GiB", "-8GiB", "+8GiB", "1.5GiB", "15MiB", "65TiB"] {
            assert!(StreamStorage::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_streams_together_take_the_total_and_only_results_are_discarded() {
        for text in ["16MiB", "1GiB", "17MiB"] {
            let storage = StreamStorage::parse(text).unwrap();
            let streams = Topology::leak(ReportQueue::DEFAULT, storage).streams;
            let total: u64 = streams.iter().map(|stream| stream.max_bytes).sum();
            assert!(total <= storage.bytes() && total + PARTS > storage.bytes(), "{text}: {total}");
            for stream in streams {
                let discards = stream.when_full == WhenFull::DiscardOldest;
                assert_eq!(discards, stream.name == crate::TRANSACTION_RESULT, "{}", stream.name);
            }
        }
    }
}
