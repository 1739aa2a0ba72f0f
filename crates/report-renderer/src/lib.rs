//! Writes documents in their formats. The same document gives the same bytes, on
//! any machine and at any time.

mod axis;
pub mod function;
mod html;
mod number;
mod pdf;
mod rows;
mod series;
mod statement;
mod words;

use std::{fs::File, io};

pub use pdf::PDF_ROW_LIMIT;
use report_document::{Document, Format};

/// Why a document was not rendered.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The kind of document has no such format.
    #[error("this kind of report can't be made as {0}")]
    NoSuchFormat(Format),
    /// The format can't hold so many rows. Another attempt fails too.
    #[error("{rows} rows are too many for {format}, which holds at most {limit}: use csv")]
    TooManyRows {
        /// The format.
        format: Format,
        /// The rows of the document.
        rows: u64,
        /// The format's limit.
        limit: u64,
    },
    /// The format can't hold so long an amount. Another attempt fails too.
    #[error(
        "an amount of {digits} digits is too long for {format}, which holds at most {limit}: use csv"
    )]
    AmountTooLong {
        /// The format.
        format: Format,
        /// The digits of the amount.
        digits: usize,
        /// The format's limit.
        limit: usize,
    },
    /// The callback asked to stop.
    #[error("rendering was stopped")]
    Stopped,
    /// The document can't be read, or the file can't be written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A library failed.
    #[error("{0}")]
    Other(String),
}

impl RenderError {
    /// Whether every other attempt fails too.
    #[must_use]
    pub const fn is_permanent(&self) -> bool {
        matches!(
            self,
            Self::NoSuchFormat(_) | Self::TooManyRows { .. } | Self::AmountTooLong { .. }
        )
    }
}

/// Is told the number of rows written so far, now and then. Rendering stops when it
/// returns `false`.
pub type Progress<'a> = &'a mut dyn FnMut(u64) -> bool;

/// Writes a document into an empty file.
///
/// # Errors
/// [`RenderError`]. The file then has no meaning.
pub fn render(
    format: Format,
    document: &Document<'_>,
    file: &mut File,
    progress: Progress<'_>,
) -> Result<(), RenderError> {
    match (format, document) {
        (Format::Pdf, _) => pdf::render(document, file, progress),
        (Format::Csv, Document::Statement(statement, entries)) => {
            statement::csv::render(statement, *entries, file, progress)
        }
        (Format::Xlsx, Document::Statement(statement, entries)) => {
            statement::xlsx::render(statement, *entries, file, progress)
        }
        (Format::Json, Document::Statement(statement, entries)) => {
            statement::json::render(statement, *entries, file, progress)
        }
        (Format::Camt053, Document::Statement(statement, entries)) => {
            statement::camt053::render(statement, *entries, file, progress)
        }
        (Format::Json, Document::Activity(activity)) => pretty(*activity, file),
        (Format::Json, Document::Reconciliation(reconciliation)) => pretty(*reconciliation, file),
        (Format::Html, Document::Activity(activity)) => {
            write(&html::activity::page(activity), file)
        }
        (Format::Html, Document::Reconciliation(reconciliation)) => {
            write(&html::reconciliation::page(reconciliation), file)
        }
        _ => Err(RenderError::NoSuchFormat(format)),
    }
}

/// The document itself. It is small, and a person may read it.
fn pretty(document: &impl serde::Serialize, file: &mut File) -> Result<(), RenderError> {
    let mut text = serde_json::to_string_pretty(document).map_err(io::Error::from)?;
    text.push('\n');
    write(&text, file)
}

fn write(text: &str, file: &mut File) -> Result<(), RenderError> {
    Ok(io::Write::write_all(file, text.as_bytes())?)
}
