//! A statement as RFC 4180: UTF-8 without a byte order mark, CRLF, one header row.
//!
//! The first row after the header is `OPENING` with the balance before the period,
//! the last is `CLOSING`, and each row between is an `ENTRY`. Only entries have a
//! credit or debit, so that the sum of a column is the total of the period. Only
//! `OPENING` and `CLOSING` name the owner.
//!
//! A spreadsheet takes a text for a formula if it starts with certain characters.
//! Such a text gets an apostrophe before it, as OWASP recommends for "CSV injection".
//! Numbers are written by this program and stay numbers.
//!
//! A row is one line: the line breaks of a description are spaces.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
};

use contract::Kind;
use report_document::{Entries, Position, Statement};
use time::OffsetDateTime;

use super::{one_line, rfc3339};
use crate::{Progress, RenderError, rows};

const HEADER: [&str; 14] = [
    "row",
    "accountSeq",
    "bookedAt",
    "type",
    "credit",
    "debit",
    "balance",
    "currency",
    "transactionId",
    "recordId",
    "accountId",
    "ownerId",
    "reference",
    "description",
];

pub(crate) fn render(
    statement: &Statement,
    entries: &dyn Entries,
    file: &mut File,
    progress: Progress<'_>,
) -> Result<(), RenderError> {
    let mut csv = ::csv::WriterBuilder::new()
        .terminator(::csv::Terminator::CRLF)
        .from_writer(BufWriter::new(file));
    csv.write_record(HEADER).map_err(from_csv)?;
    let account_id = statement.account_id.to_string();
    let currency = neutral(&statement.currency);
    let balance = |name, position: &Position, at: OffsetDateTime| {
        Ok::<_, RenderError>([
            name,
            position.account_seq.to_string(),
            rfc3339(at)?,
            String::new(),
            String::new(),
            String::new(),
            position.balance.to_string(),
            currency.clone(),
            String::new(),
            String::new(),
            account_id.clone(),
            neutral(&statement.owner_id),
            String::new(),
            String::new(),
        ])
    };
    csv.write_record(balance("OPENING".into(), &statement.opening, statement.period.from)?)
        .map_err(from_csv)?;
    rows::for_each(statement, entries, progress, |entry| {
        let amount = entry.amount.to_string();
        let (credit, debit) = match entry.r#type {
            Kind::Deposit => (amount.as_str(), ""),
            Kind::Withdrawal => ("", amount.as_str()),
        };
        csv.write_record([
            "ENTRY",
            &entry.account_seq.to_string(),
            &rfc3339(entry.at)?,
            entry.r#type.as_str(),
            credit,
            debit,
            &entry.balance_after.to_string(),
            &currency,
            &entry.transaction_id.to_string(),
            &entry.record_id.to_string(),
            &account_id,
            "",
            &label(entry.reference.as_deref()),
            &label(entry.description.as_deref()),
        ])
        .map_err(from_csv)
    })?;
    csv.write_record(balance("CLOSING".into(), &statement.closing, statement.period.to)?)
        .map_err(from_csv)?;
    let mut file = csv.into_inner().map_err(|error| RenderError::Io(error.into_error()))?;
    Ok(file.flush()?)
}

fn label(text: Option<&str>) -> String {
    text.map(|text| neutral(&one_line(text))).unwrap_or_default()
}

/// A text that no spreadsheet takes for a formula.
/// <https://owasp.org/www-community/attacks/CSV_Injection>
fn neutral(text: &str) -> String {
    let first_sign = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];
    if text.starts_with(['\t', '\r', '\n']) || text.trim_start().starts_with(first_sign) {
        format!("'{text}")
    } else {
        text.to_owned()
    }
}

fn from_csv(error: ::csv::Error) -> RenderError {
    RenderError::Io(io::Error::from(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_never_starts_a_formula() {
        for text in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "＝1", "  =1"] {
            assert_eq!(neutral(text), format!("'{text}"));
        }
        for text in ["", "ann", "a=1", "1-1", "'=1"] {
            assert_eq!(neutral(text), text);
        }
    }

    #[test]
    fn a_label_is_one_line() {
        assert_eq!(label(Some("a\r\nENTRY,\tb\u{2028}c")), "a  ENTRY, b c");
        assert_eq!(label(Some("\n=1+1")), "' =1+1");
        assert_eq!(label(None), "");
    }
}
