//! Every text format, byte for byte. `PASSBOOK_WRITE_GOLDEN=1 cargo test -p
//! report-renderer golden` writes the files again. A change of their bytes needs a new
//! `report_document::TEMPLATE`.

use std::path::Path;

use report_document::{Document, Format};

use crate::{
    documents::{MadeEntries, activity, reconciliation},
    text,
};

fn compare(name: &str, rendered: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("PASSBOOK_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, rendered).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert!(rendered == golden, "{name} changed");
}

#[test]
fn statements_are_those_of_the_golden_files() {
    for (currency, exponent) in [("KRW", 0), ("USD", 2), ("KWD", 3), ("CLF", 4)] {
        let entries = MadeEntries { count: 5, exponent, extra: 0 };
        let statement = entries.statement(currency);
        let document = Document::Statement(&statement, &entries);
        for format in [Format::Csv, Format::Json, Format::Camt053] {
            let name = format!("statement_{}.{}", currency.to_lowercase(), format.extension());
            compare(&name, &text(format, &document));
        }
    }
}

#[test]
fn a_statement_without_entries_is_that_of_the_golden_files() {
    let entries = MadeEntries { count: 0, exponent: 2, extra: 0 };
    let statement = entries.statement("USD");
    let document = Document::Statement(&statement, &entries);
    for format in [Format::Csv, Format::Json, Format::Camt053] {
        compare(&format!("statement_empty.{}", format.extension()), &text(format, &document));
    }
}

#[test]
fn reports_are_those_of_the_golden_files() {
    let (activity, reconciliation) = (activity(), reconciliation());
    for format in [Format::Json, Format::Html] {
        let name = format!("activity.{format}");
        compare(&name, &text(format, &Document::Activity(&activity)));
        let name = format!("reconciliation.{format}");
        compare(&name, &text(format, &Document::Reconciliation(&reconciliation)));
    }
}
