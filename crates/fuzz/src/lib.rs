//! Fuzz targets for the parsers that outsiders reach: clients of the API, publishers at the
//! broker, receivers of webhooks, and files from elsewhere.
//!
//! A target gets any bytes and panics if an invariant of its parser breaks. Two engines run it:
//! `tests/corpus.rs`, in `make test`, repeats the committed corpus and mutates it for two seconds;
//! `make fuzz` runs libFuzzer, which mutates what reaches new code.
//!
//! All of it is test code: it panics where a parser is wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::missing_panics_doc, missing_docs)]

pub mod corpus;
pub mod mutator;
mod targets;

/// A parser under test.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The name of its folder in the corpus.
    pub name: &'static str,
    /// Parses an input and checks what comes out.
    pub run: fn(&[u8]),
}

impl Target {
    /// The target with this name.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        targets::ALL.into_iter().find(|target| target.name == name)
    }

    /// Every target.
    #[must_use]
    pub const fn all() -> &'static [Self] {
        &targets::ALL
    }
}
