//! PDF: its tags, and documents that are hard to lay out. The text of the pages is
//! checked by `deploy/check-reports.sh`, with a reader that knows nothing of Passbook.

use report_document::{Document, Entry, Format};
use report_renderer::{PDF_ROW_LIMIT, RenderError, render};
use rust_decimal::Decimal;

use crate::{
    documents::{MadeEntries, activity, reconciliation},
    rendered,
};

/// How often a text is in the file. Tags are not compressed.
fn occurrences(pdf: &[u8], text: &str) -> usize {
    pdf.windows(text.len()).filter(|window| *window == text.as_bytes()).count()
}

fn pages(pdf: &[u8]) -> usize {
    occurrences(pdf, "/Type/Page/")
}

#[test]
fn every_row_of_a_statement_is_tagged_once() {
    let entries = MadeEntries { count: 300, exponent: 2, extra: 0 };
    let statement = entries.statement("USD");
    let pdf = rendered(Format::Pdf, &Document::Statement(&statement, &entries)).unwrap();
    assert!(pages(&pdf) > 10, "{} pages", pages(&pdf));
    // The header, the opening and closing balance and the totals are rows too.
    assert_eq!(occurrences(&pdf, "/S/TR/"), 304);
    assert_eq!(occurrences(&pdf, "/S/TH/"), 5 + 303);
    assert_eq!(occurrences(&pdf, "/S/TD/"), 4 * 303);
    assert_eq!(occurrences(&pdf, "/S/Table/"), 1);
    assert_eq!(occurrences(&pdf, "/FontFile3"), 2, "both fonts are in the file");
    assert!(occurrences(&pdf, "<pdfuaid:part>1</pdfuaid:part>") == 1);
    assert!(occurrences(&pdf, "<pdfaid:part>2</pdfaid:part>") == 1);
}

#[test]
fn charts_are_figures_with_a_description() {
    let pdf = rendered(Format::Pdf, &Document::Activity(&activity())).unwrap();
    // Two currencies by day, both together, refusals and the time to settlement.
    assert_eq!(occurrences(&pdf, "/S/Figure/"), 5);
    assert_eq!(occurrences(&pdf, "/Alt"), 5);
}

#[test]
fn a_statement_above_the_limit_is_refused_before_any_work() {
    let entries = MadeEntries { count: 0, exponent: 0, extra: 0 };
    let mut statement = entries.statement("KRW");
    statement.credits.count = PDF_ROW_LIMIT + 1;
    let document = Document::Statement(&statement, &entries);
    let mut file = tempfile::tempfile().unwrap();
    let error = render(Format::Pdf, &document, &mut file, &mut |_| panic!("work")).unwrap_err();
    assert!(matches!(error, RenderError::TooManyRows { limit: PDF_ROW_LIMIT, .. }), "{error}");
    assert!(error.is_permanent());
}

#[test]
fn rendering_a_pdf_stops_when_the_callback_says_so() {
    let entries = MadeEntries { count: 2_500, exponent: 0, extra: 0 };
    let statement = entries.statement("KRW");
    let document = Document::Statement(&statement, &entries);
    for last in [0, 1_000] {
        let mut calls = Vec::new();
        let mut file = tempfile::tempfile().unwrap();
        let result = render(Format::Pdf, &document, &mut file, &mut |rows| {
            calls.push(rows);
            rows < last
        });
        assert!(matches!(result, Err(RenderError::Stopped)));
        assert_eq!(calls.last(), Some(&last));
        assert_eq!(file.metadata().unwrap().len(), 0);
    }
}

#[test]
fn the_longest_amounts_and_strange_names_are_laid_out() {
    let names = [
        "W".repeat(255),
        "\u{d55c}\u{ad6d}\u{c740}\u{d589} ".repeat(51),
        "Jos\u{e9} \u{1f600} \u{6f22} \u{202e}\u{feff}\u{0}\n\u{e000}\u{10ffff}".to_owned(),
        "\u{1112}\u{1161}\u{11ab}e\u{301}".repeat(30),
        String::new(),
        " ".repeat(255),
    ];
    let entry = |number: i64| Entry {
        account_seq: number,
        amount: Decimal::from_str_exact("999999999999999999.9999").unwrap(),
        balance_after: Decimal::from_str_exact("999999999999999999.9999").unwrap(),
        ..first_entry()
    };
    let entries: Vec<Entry> = (1..=200).map(entry).collect();
    for name in names {
        let mut statement = MadeEntries { count: 0, exponent: 4, extra: 0 }.statement("CLF");
        statement.closing.balance = entries[0].balance_after;
        statement.credits.count = 200;
        statement.credits.amount = Decimal::from_str_exact("199999999999999999999.98").unwrap();
        statement.debits.amount = Decimal::from_str_exact("99999999999999999999.9999").unwrap();
        let labelled = |entry: &Entry| Entry {
            reference: Some(name.clone()),
            description: Some(name.repeat(4)),
            ..entry.clone()
        };
        let entries: Vec<Entry> = entries.iter().map(labelled).collect();
        (statement.issuer, statement.owner_id) = (name.clone(), name);
        let pdf = rendered(Format::Pdf, &Document::Statement(&statement, &entries)).unwrap();
        assert!(pages(&pdf) > 4);
    }
}

fn first_entry() -> Entry {
    let entries = MadeEntries { count: 1, exponent: 4, extra: 0 };
    report_document::Entries::open(&entries).unwrap().next().unwrap().unwrap()
}

#[test]
fn reports_with_long_texts_are_laid_out() {
    let (mut activity, mut reconciliation) = (activity(), reconciliation());
    activity.unusual.method = "method ".repeat(400);
    for paragraph in &mut activity.analysis.as_mut().unwrap().paragraphs {
        *paragraph = "A sentence of the analysis with 1,234 in it. ".repeat(200);
    }
    for total in &mut activity.totals {
        total.amount = Decimal::MAX;
    }
    activity.refusals[0].reason = "REASON_".repeat(40);
    activity.refusals = std::iter::repeat_n(activity.refusals.clone(), 40).flatten().collect();
    reconciliation.findings[0].detail = "x".repeat(3_000);
    reconciliation.findings[1].subject = "\u{d55c}".repeat(300);
    reconciliation.findings =
        std::iter::repeat_n(reconciliation.findings.clone(), 20).flatten().collect();
    assert!(pages(&rendered(Format::Pdf, &Document::Activity(&activity)).unwrap()) > 8);
    let report = Document::Reconciliation(&reconciliation);
    assert!(pages(&rendered(Format::Pdf, &report).unwrap()) > 5);
}

#[test]
fn empty_reports_are_laid_out() {
    let (mut activity, mut reconciliation) = (activity(), reconciliation());
    activity.totals.clear();
    activity.days.clear();
    activity.refusals.clear();
    activity.largest_accounts.clear();
    activity.unusual.items.clear();
    activity.settlement.count = 0;
    activity.analysis = None;
    reconciliation.checks.clear();
    reconciliation.findings.clear();
    assert_eq!(pages(&rendered(Format::Pdf, &Document::Activity(&activity)).unwrap()), 1);
    let report = Document::Reconciliation(&reconciliation);
    assert_eq!(pages(&rendered(Format::Pdf, &report).unwrap()), 1);
}
