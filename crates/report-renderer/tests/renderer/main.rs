//! The formats: their bytes, their sums and their limits.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod determinism;
mod documents;
mod golden;
mod html;
mod limits;
mod pdf;
mod sums;
mod xlsx;

use std::io::{Read, Seek};

use report_document::{Document, Format};
use report_renderer::{RenderError, render};

/// The bytes of a rendered file.
fn rendered(format: Format, document: &Document<'_>) -> Result<Vec<u8>, RenderError> {
    let mut file = tempfile::tempfile().unwrap();
    render(format, document, &mut file, &mut |_| true)?;
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    Ok(bytes)
}

/// A rendered file as text.
fn text(format: Format, document: &Document<'_>) -> String {
    String::from_utf8(rendered(format, document).unwrap()).unwrap()
}
