//! Names of stored files: `<report id>/<attempt>/<file name>`.
//!
//! A path comes from a database row, a renderer's answer or a listing. It is parsed before
//! use, so that none can leave the storage's folder or prefix.

use std::{fmt, str::FromStr};

use uuid::Uuid;

/// The longest file name, in bytes.
const MAX_NAME: usize = 128;

/// The name of a stored file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArtifactPath {
    report: Uuid,
    attempt: u32,
    name: String,
}

/// The text is no path of an artifact.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no artifact path: it must be <report id>/<attempt>/<file name>")]
pub struct InvalidPath(String);

impl ArtifactPath {
    /// # Errors
    /// If `name` is empty, longer than 128 bytes, starts with a dot or a hyphen, or has other
    /// characters than ASCII letters, digits, `.`, `_` and `-`.
    pub fn new(report: Uuid, attempt: u32, name: &str) -> Result<Self, InvalidPath> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let valid = (1..=MAX_NAME).contains(&name.len())
            && !name.starts_with(['.', '-'])
            && name.chars().all(plain);
        if !valid {
            return Err(InvalidPath(format!("{report}/{attempt}/{name}")));
        }
        Ok(Self { report, attempt, name: name.to_owned() })
    }

    #[must_use]
    pub fn report(&self) -> Uuid {
        self.report
    }

    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl FromStr for ArtifactPath {
    type Err = InvalidPath;

    /// Accepts exactly the text that [`Display`](fmt::Display) prints.
    fn from_str(text: &str) -> Result<Self, InvalidPath> {
        let invalid = || InvalidPath(text.chars().take(256).collect());
        let (report, rest) = text.split_once('/').ok_or_else(invalid)?;
        let (attempt, name) = rest.split_once('/').ok_or_else(invalid)?;
        let report = Uuid::from_str(report).map_err(|_| invalid())?;
        let attempt = attempt.parse().map_err(|_| invalid())?;
        let path = Self::new(report, attempt, name).map_err(|_| invalid())?;
        if path.to_string() == text { Ok(path) } else { Err(invalid()) }
    }
}

impl fmt::Display for ArtifactPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.report, self.attempt, self.name)
    }
}

/// Which files to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefix {
    All,
    Attempt(Uuid, u32),
}

impl Prefix {
    /// `None` for all files.
    pub(crate) fn folder(self) -> Option<String> {
        match self {
            Self::All => None,
            Self::Attempt(report, attempt) => Some(format!("{report}/{attempt}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "0197c1a0-7b1e-7000-8000-000000000001";

    #[test]
    fn a_path_is_read_as_it_is_printed() {
        for name in ["statement.pdf", "a", "document.ndjson", "x-1_2.tar.gz"] {
            let text = format!("{REPORT}/3/{name}");
            let path: ArtifactPath = text.parse().unwrap();
            assert_eq!(path.to_string(), text);
            assert_eq!((path.attempt(), path.name()), (3, name));
        }
    }

    #[test]
    fn a_path_that_could_leave_its_folder_is_rejected() {
        let long = "x".repeat(129);
        for name in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "a\\b",
            ".hidden",
            "-rf",
            "a b",
            "a\0",
            "a#1",
            "a%2f",
            "보고서.pdf",
            "a\n",
            "a:b",
            &long,
        ] {
            assert!(format!("{REPORT}/1/{name}").parse::<ArtifactPath>().is_err(), "{name:?}");
        }
    }

    #[test]
    fn other_spellings_of_a_path_are_rejected() {
        for text in [
            format!("{}/1/a", REPORT.to_uppercase()),
            format!("{}/1/a", REPORT.replace('-', "")),
            format!("{{{REPORT}}}/1/a"),
            format!("{REPORT}/01/a"),
            format!("{REPORT}/+1/a"),
            format!("{REPORT}/-1/a"),
            format!("{REPORT}/4294967296/a"),
            format!("/{REPORT}/1/a"),
            format!("{REPORT}/1/a/"),
            format!("{REPORT}//a"),
            format!("{REPORT}/1"),
            format!("../{REPORT}/1/a"),
            String::new(),
        ] {
            assert!(text.parse::<ArtifactPath>().is_err(), "{text:?}");
        }
    }
}
