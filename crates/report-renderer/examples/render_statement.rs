//! Renders a statement of made-up entries, for checks by other programs and for
//! measurements: `render_statement FORMAT ENTRIES CURRENCY EXPONENT EXTRA FILE`. `EXTRA`
//! minor units are added to every third amount.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs, dead_code)]

#[path = "../tests/renderer/documents.rs"]
mod documents;

use std::{fs::File, time::Instant};

use report_document::{Document, Entries, EntryFile, EntryWriter, Format};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, format, count, currency, exponent, extra, path] = arguments.as_slice() else {
        panic!("render_statement FORMAT ENTRIES CURRENCY EXPONENT EXTRA FILE");
    };
    let format = Format::parse(format).unwrap();
    let count = count.parse().unwrap();
    let entries = documents::MadeEntries {
        count,
        exponent: exponent.parse().unwrap(),
        extra: extra.parse().unwrap(),
    };
    let statement = entries.statement(currency);
    let scratch = tempfile::NamedTempFile::new().unwrap();
    let mut writer = EntryWriter::create(scratch.path()).unwrap();
    for entry in entries.open().unwrap() {
        writer.write(&entry.unwrap()).unwrap();
    }
    writer.finish().unwrap();
    let file = EntryFile::new(scratch.path());
    let mut output = File::create(path).unwrap();
    let began = Instant::now();
    let document = Document::Statement(&statement, &file);
    report_renderer::render(format, &document, &mut output, &mut |_| true).unwrap();
    let (seconds, bytes) = (began.elapsed().as_secs_f64(), output.metadata().unwrap().len());
    eprintln!("{format}: {count} entries, {bytes} bytes, {seconds:.2} s");
}
