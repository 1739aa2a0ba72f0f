//! What a format can't hold, and documents that are not what they say.

use report_document::{Document, Entries, Format, Kind};
use report_renderer::{RenderError, render};
use rust_decimal::Decimal;

use crate::{
    documents::{MadeEntries, activity, reconciliation},
    rendered,
};

#[test]
fn a_workbook_has_at_most_excels_rows() {
    let entries = MadeEntries { count: 0, exponent: 0, extra: 0 };
    let mut statement = entries.statement("KRW");
    statement.credits.count = 1_048_576;
    let error = rendered(Format::Xlsx, &Document::Statement(&statement, &entries)).unwrap_err();
    assert!(error.is_permanent());
    assert_eq!(
        error.to_string(),
        "1048576 rows are too many for xlsx, which holds at most 1048575: use csv"
    );
}

#[test]
fn camt_053_rejects_an_amount_of_19_digits() {
    let entries = MadeEntries { count: 0, exponent: 2, extra: 0 };
    for (balance, fits) in [("9999999999999999.99", true), ("10000000000000000.01", false)] {
        let mut statement = entries.statement("USD");
        statement.opening.balance = Decimal::from_str_exact(balance).unwrap();
        statement.closing.balance = statement.opening.balance;
        let document = Document::Statement(&statement, &entries);
        match rendered(Format::Camt053, &document) {
            Ok(_) => assert!(fits),
            Err(error) => {
                assert!(error.is_permanent() && !fits);
                assert!(matches!(error, RenderError::AmountTooLong { digits: 19, limit: 18, .. }));
            }
        }
        assert!(rendered(Format::Csv, &document).is_ok());
        assert!(rendered(Format::Xlsx, &document).is_ok());
    }
}

#[test]
fn rendering_stops_when_the_callback_says_so() {
    let entries = MadeEntries { count: 5_000, exponent: 0, extra: 0 };
    let statement = entries.statement("KRW");
    for format in [Format::Csv, Format::Xlsx, Format::Json, Format::Camt053] {
        let mut calls = Vec::new();
        let result = render(
            format,
            &Document::Statement(&statement, &entries),
            &mut tempfile::tempfile().unwrap(),
            &mut |rows| {
                calls.push(rows);
                rows < 2_000
            },
        );
        assert!(matches!(result, Err(RenderError::Stopped)), "{format}");
        assert_eq!(calls, [1_000, 2_000]);
    }
}

#[test]
fn a_file_of_entries_that_was_cut_off_is_no_statement() {
    let entries = MadeEntries { count: 9, exponent: 0, extra: 0 };
    let statement = entries.statement("KRW");
    let all: Vec<_> = entries.open().unwrap().map(Result::unwrap).collect();
    for format in [Format::Pdf, Format::Csv, Format::Xlsx, Format::Json, Format::Camt053] {
        let cut = all[..8].to_vec();
        let error = rendered(format, &Document::Statement(&statement, &cut)).unwrap_err();
        assert!(matches!(error, RenderError::Io(_)), "{format}: {error}");
        let mut other = all.clone();
        other[8].balance_after += Decimal::ONE;
        assert!(rendered(format, &Document::Statement(&statement, &other)).is_err());
    }
}

#[test]
fn a_kind_has_only_its_formats() {
    let entries = MadeEntries { count: 1, exponent: 0, extra: 0 };
    let (statement, activity, reconciliation) =
        (entries.statement("KRW"), activity(), reconciliation());
    for document in [
        Document::Statement(&statement, &entries),
        Document::Activity(&activity),
        Document::Reconciliation(&reconciliation),
    ] {
        for format in Format::ALL {
            let kind: Kind = document.kind();
            match rendered(format, &document) {
                Ok(bytes) => assert!(kind.formats().contains(&format) && !bytes.is_empty()),
                Err(RenderError::NoSuchFormat(_)) => assert!(!kind.formats().contains(&format)),
                Err(error) => panic!("{error}"),
            }
        }
    }
}
