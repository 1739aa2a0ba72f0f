//! The kinds of reports and the formats of each.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The kind of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// One account and one period.
    Statement,
    /// All accounts in one period.
    Activity,
    /// The findings of `passbook verify`.
    Reconciliation,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Statement, Self::Activity, Self::Reconciliation];

    /// The name on the wire and in columns.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Statement => "statement",
            Self::Activity => "activity",
            Self::Reconciliation => "reconciliation",
        }
    }

    /// The kind with this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The formats of this kind.
    #[must_use]
    pub const fn formats(self) -> &'static [Format] {
        match self {
            Self::Statement => {
                &[Format::Pdf, Format::Csv, Format::Xlsx, Format::Json, Format::Camt053]
            }
            Self::Activity | Self::Reconciliation => &[Format::Pdf, Format::Html, Format::Json],
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// PDF, tagged, with its fonts.
    Pdf,
    /// RFC 4180.
    Csv,
    /// Office Open XML.
    Xlsx,
    /// JSON.
    Json,
    /// ISO 20022 camt.053.
    Camt053,
    /// One self-contained file.
    Html,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 6] =
        [Self::Pdf, Self::Csv, Self::Xlsx, Self::Json, Self::Camt053, Self::Html];

    /// The name on the wire, in paths and in columns.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pdf => "pdf",
            Self::Csv => "csv",
            Self::Xlsx => "xlsx",
            Self::Json => "json",
            Self::Camt053 => "camt053",
            Self::Html => "html",
        }
    }

    /// The format with this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.as_str() == name)
    }

    /// The media type of a file in this format.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Pdf => "application/pdf",
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Xlsx => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            Self::Json => "application/json",
            Self::Camt053 => "application/xml",
            Self::Html => "text/html; charset=utf-8",
        }
    }

    /// The end of a file's name, without the dot.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Camt053 => "xml",
            other => other.as_str(),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
