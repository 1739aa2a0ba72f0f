//! Documents as JSON, from one process to another.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write},
    path::Path,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Activity, Document, Entry, EntryFile, Kind, Reconciliation, Statement};

impl Document<'_> {
    /// The kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Statement(..) => Kind::Statement,
            Self::Activity(_) => Kind::Activity,
            Self::Reconciliation(_) => Kind::Reconciliation,
        }
    }

    /// Writes the document as one JSON object. A statement has its `entries` inside.
    ///
    /// # Errors
    /// If the entries can't be read, or the writer fails.
    pub fn write_json(&self, mut writer: impl Write) -> io::Result<()> {
        let Self::Statement(statement, entries) = self else { return self.write_head(writer) };
        writer.write_all(statement.json_before_entries()?.as_bytes())?;
        for (index, entry) in entries.open()?.enumerate() {
            if index > 0 {
                writer.write_all(b",")?;
            }
            serde_json::to_writer(&mut writer, &entry?)?;
        }
        writer.write_all(b"]}")
    }

    /// Writes the document as one line, and each entry of a statement as another.
    ///
    /// # Errors
    /// As [`Document::write_json`].
    pub fn write_lines(&self, mut writer: impl Write) -> io::Result<()> {
        self.write_head(&mut writer)?;
        writer.write_all(b"\n")?;
        if let Self::Statement(_, entries) = self {
            for entry in entries.open()? {
                serde_json::to_writer(&mut writer, &entry?)?;
                writer.write_all(b"\n")?;
            }
        }
        Ok(())
    }

    fn write_head(&self, writer: impl Write) -> io::Result<()> {
        match self {
            Self::Statement(statement, _) => write(writer, statement),
            Self::Activity(activity) => write(writer, activity),
            Self::Reconciliation(reconciliation) => write(writer, reconciliation),
        }
    }
}

fn write(writer: impl Write, value: &impl Serialize) -> io::Result<()> {
    Ok(serde_json::to_writer(writer, value)?)
}

impl Statement {
    /// The JSON form of the statement, up to the first of its `entries`. `]}` ends it.
    ///
    /// # Errors
    /// Never in practice: a statement has a JSON form.
    pub fn json_before_entries(&self) -> io::Result<String> {
        let mut json = serde_json::to_string(self)?;
        json.pop();
        json.push_str(",\"entries\":[");
        Ok(json)
    }
}

/// A document that was received as JSON.
#[derive(Debug)]
pub enum OwnedDocument {
    /// A statement with its entries in memory.
    Statement(Statement, Vec<Entry>),
    /// A statement with its entries in a file.
    LargeStatement(Statement, EntryFile),
    /// All accounts in one period.
    Activity(Activity),
    /// The findings of `passbook verify`.
    Reconciliation(Reconciliation),
}

impl OwnedDocument {
    /// Reads what [`Document::write_json`] writes.
    ///
    /// # Errors
    /// If it is not the JSON form of such a document.
    pub fn from_json(kind: Kind, json: &str) -> serde_json::Result<Self> {
        #[derive(Deserialize)]
        struct WithEntries {
            entries: Vec<Entry>,
        }
        // Two passes, because serde's `flatten` would keep a copy of all entries.
        Ok(match kind {
            Kind::Statement => Self::Statement(
                serde_json::from_str(json)?,
                serde_json::from_str::<WithEntries>(json)?.entries,
            ),
            Kind::Activity => Self::Activity(serde_json::from_str(json)?),
            Kind::Reconciliation => Self::Reconciliation(serde_json::from_str(json)?),
        })
    }

    /// Reads what [`Document::write_lines`] writes. The entries stay in the file.
    ///
    /// # Errors
    /// If the file can't be read, or its first line is not such a document.
    pub fn from_lines(kind: Kind, path: &Path) -> io::Result<Self> {
        Ok(match kind {
            Kind::Statement => {
                Self::LargeStatement(first_line(path)?, EntryFile::after_first_line(path))
            }
            Kind::Activity => Self::Activity(first_line(path)?),
            Kind::Reconciliation => Self::Reconciliation(first_line(path)?),
        })
    }

    /// The document to render.
    #[must_use]
    pub fn as_document(&self) -> Document<'_> {
        match self {
            Self::Statement(statement, entries) => Document::Statement(statement, entries),
            Self::LargeStatement(statement, entries) => Document::Statement(statement, entries),
            Self::Activity(activity) => Document::Activity(activity),
            Self::Reconciliation(reconciliation) => Document::Reconciliation(reconciliation),
        }
    }

    /// The version of the layout.
    #[must_use]
    pub const fn template(&self) -> u32 {
        match self {
            Self::Statement(statement, _) | Self::LargeStatement(statement, _) => {
                statement.template
            }
            Self::Activity(activity) => activity.template,
            Self::Reconciliation(reconciliation) => reconciliation.template,
        }
    }
}

fn first_line<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let mut line = String::new();
    BufReader::new(File::open(path)?).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn statement() -> (Statement, Vec<Entry>) {
        let statement = json!({
            "template": 2, "issuer": "Passbook", "ownerId": "ann", "currency": "KRW", "exponent": 0,
            "accountId": "0199d4a2-7c1e-7b7a-9a55-3f1d8f6f2c11",
            "period": {"from": "2026-01-01T00:00:00+09:00", "to": "2026-02-01T00:00:00+09:00",
                "timeZone": "Asia/Seoul"},
            "opening": {"balance": "0", "accountSeq": 0},
            "closing": {"balance": "30", "accountSeq": 2},
            "credits": {"count": 2, "amount": "30"}, "debits": {"count": 0, "amount": "0"},
        });
        let entry = |seq: i64| {
            serde_json::from_value(json!({
                "accountSeq": seq, "transactionId": format!("{seq:032x}"), "type": "DEPOSIT", "amount": "15",
                "recordId": "0199d4a2-7c1e-7b7a-9a55-3f1d8f6f2c12",
                "balanceAfter": (15 * seq).to_string(), "at": "2026-01-02T00:00:00.5+09:00",
            }))
            .unwrap()
        };
        (serde_json::from_value(statement).unwrap(), vec![entry(1), entry(2)])
    }

    #[test]
    fn a_statement_is_the_same_after_both_ways() {
        let (statement, entries) = statement();
        let document = Document::Statement(&statement, &entries);
        let (mut json, file) = (Vec::new(), tempfile::NamedTempFile::new().unwrap());
        document.write_json(&mut json).unwrap();
        document.write_lines(file.as_file()).unwrap();
        let json = String::from_utf8(json).unwrap();
        for read in [
            OwnedDocument::from_json(Kind::Statement, &json).unwrap(),
            OwnedDocument::from_lines(Kind::Statement, file.path()).unwrap(),
        ] {
            let Document::Statement(read, its_entries) = read.as_document() else { panic!() };
            let its_entries: Vec<_> = its_entries.open().unwrap().map(Result::unwrap).collect();
            assert_eq!((read, &its_entries), (&statement, &entries));
        }
    }

    #[test]
    fn a_statement_without_entries_or_with_half_a_line_is_an_error() {
        let (statement, entries) = statement();
        let json = serde_json::to_string(&statement).unwrap();
        assert!(OwnedDocument::from_json(Kind::Statement, &json).is_err());
        let mut lines = Vec::new();
        Document::Statement(&statement, &entries).write_lines(&mut lines).unwrap();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&lines[..lines.len() - 9]).unwrap();
        let document = OwnedDocument::from_lines(Kind::Statement, file.path()).unwrap();
        let Document::Statement(_, entries) = document.as_document() else { panic!() };
        assert!(entries.open().unwrap().any(|entry| entry.is_err()));
    }
}
