//! The cells of a workbook.

use std::io::{Cursor, Read};

use contract::TransactionId;
use report_document::{Document, Entries, Entry, Format};

use crate::{documents::MadeEntries, rendered};

/// The text of a cell, such as `J2`; `None` if it is empty or a number.
fn cell(sheet: &str, place: &str) -> Option<String> {
    let (_, cell) = sheet.split_once(&format!("<c r=\"{place}\" "))?;
    let (cell, _) = cell.split_once("</c>").unwrap();
    let text = cell.split_once("<is><t")?.1.split_once('>')?.1.split_once("</t>")?.0;
    Some(text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
}

#[test]
fn labels_are_texts_in_columns_of_their_own() {
    let made = MadeEntries { count: 7, exponent: 2, extra: 0 };
    let statement = made.statement("USD");
    let file = rendered(Format::Xlsx, &Document::Statement(&statement, &made)).unwrap();
    let mut archive = zip::ZipArchive::new(Cursor::new(file)).unwrap();
    let mut sheet = String::new();
    archive.by_name("xl/worksheets/sheet2.xml").unwrap().read_to_string(&mut sheet).unwrap();
    let entries: Vec<Entry> = made.open().unwrap().map(Result::unwrap).collect();
    let labels: Vec<_> = (2..9)
        .map(|row| (cell(&sheet, &format!("J{row}")), cell(&sheet, &format!("K{row}"))))
        .collect();
    let expected: Vec<_> =
        entries.iter().map(|entry| (entry.reference.clone(), entry.description.clone())).collect();
    assert_eq!(labels, expected);
    assert_eq!(cell(&sheet, "J3").as_deref(), Some("=SUM(A1:A9) \"x\""));
    assert!(!sheet.contains("<f>"));
    for (row, entry) in (2..9).zip(&entries) {
        let ids = [cell(&sheet, &format!("H{row}")), cell(&sheet, &format!("I{row}"))];
        let transaction = TransactionId::of(entry.record_id).to_string();
        assert_eq!(ids, [Some(transaction), Some(entry.record_id.to_string())]);
    }
}
