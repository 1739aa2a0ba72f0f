//! Renders a made-up activity report or reconciliation, to look at it:
//! `render_report activity|reconciliation FORMAT FILE`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs, dead_code)]

#[path = "../tests/renderer/documents.rs"]
mod documents;

use std::fs::File;

use report_document::{Document, Format};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, kind, format, path] = arguments.as_slice() else {
        panic!("render_report activity|reconciliation FORMAT FILE");
    };
    let format = Format::parse(format).unwrap();
    let (activity, reconciliation) = (documents::activity(), documents::reconciliation());
    let document = match kind.as_str() {
        "activity" => Document::Activity(&activity),
        "reconciliation" => Document::Reconciliation(&reconciliation),
        other => panic!("{other} is neither activity nor reconciliation"),
    };
    let mut output = File::create(path).unwrap();
    report_renderer::render(format, &document, &mut output, &mut |_| true).unwrap();
}
