//! Documents as PDF: tagged, with font subsets, PDF/UA-1 and PDF/A-2a.
//!
//! krilla holds the whole file in memory, so a statement has a limit of rows. The
//! file has no clock and no random id: its date is the end of the period. A
//! reconciliation has no period, hence no date, and PDF/A requires one: it is
//! PDF/UA-1 only.

mod activity;
mod chart;
mod columns;
mod draw;
mod font;
mod letter;
mod reconciliation;
mod sheet;
mod statement;
mod style;
mod table;
mod text;

use std::{fs::File, io::Write};

use krilla::{
    Document as PdfDocument, SerializeSettings,
    configure::{Accessibility, Archival, ConfigurationBuilder},
    metadata::{DateTime, Metadata},
};
use report_document::{Document, Format};
use time::{OffsetDateTime, UtcOffset};

use self::{
    font::Fonts,
    sheet::{Frame, Sheet},
};
use crate::{Progress, RenderError};

/// The most entries of a statement. A renderer of so many needs about 160 MiB: krilla
/// holds the pages and the tags of the whole document. Larger statements are refused
/// before any work.
pub const PDF_ROW_LIMIT: u64 = 50_000;

pub(crate) fn render(
    document: &Document<'_>,
    file: &mut File,
    progress: Progress<'_>,
) -> Result<(), RenderError> {
    if let Document::Statement(statement, _) = document {
        let (rows, limit) = (statement.entries(), PDF_ROW_LIMIT);
        if rows > limit {
            return Err(RenderError::TooManyRows { format: Format::Pdf, rows, limit });
        }
    }
    let fonts = Fonts::load()?;
    let bytes = match document {
        Document::Statement(statement, entries) => {
            let about = statement::about(statement);
            paged(&fonts, &about, progress, |sheet, progress| {
                statement::write(sheet, statement, *entries, progress)
            })
        }
        Document::Activity(activity) => {
            let about = activity::about(activity);
            paged(&fonts, &about, progress, |sheet, _| {
                activity::write(sheet, activity);
                Ok(())
            })
        }
        Document::Reconciliation(report) => {
            let about = reconciliation::about(report);
            paged(&fonts, &about, progress, |sheet, _| {
                reconciliation::write(sheet, report);
                Ok(())
            })
        }
    }?;
    Ok(file.write_all(&bytes)?)
}

/// What a document says about itself.
struct About {
    title: String,
    issuer: String,
    /// Differs between two documents.
    id: String,
    date: Option<OffsetDateTime>,
    frame: Frame,
}

/// Lays the content out twice: to count the pages, and to write them.
fn paged(
    fonts: &Fonts,
    about: &About,
    progress: Progress<'_>,
    mut write: impl FnMut(&mut Sheet<'_>, Progress<'_>) -> Result<(), RenderError>,
) -> Result<Vec<u8>, RenderError> {
    let mut counted = Sheet::counting(fonts, &about.frame);
    write(&mut counted, progress)?;
    if !progress(0) {
        return Err(RenderError::Stopped);
    }
    let mut sheet = Sheet::writing(fonts, &about.frame, empty(about)?, counted.count());
    write(&mut sheet, progress)?;
    sheet.finish()?.finish().map_err(|error| RenderError::Other(format!("{error:?}")))
}

/// A document without pages.
fn empty(about: &About) -> Result<PdfDocument, RenderError> {
    let mut configuration =
        ConfigurationBuilder::new().with_accessibility_validator(Accessibility::UA1);
    if about.date.is_some() {
        configuration = configuration.with_archival_validator(Archival::A2_A);
    }
    let configuration = configuration
        .finish()
        .map_err(|error| RenderError::Other(format!("PDF/A and PDF/UA: {error:?}")))?;
    let settings = SerializeSettings { configuration, ..SerializeSettings::default() };
    let mut document = PdfDocument::new_with(settings);
    let metadata = Metadata::new()
        .title(about.title.clone())
        .authors(vec![about.issuer.clone()])
        .creator("Passbook".to_owned())
        .language("en".to_owned())
        .document_id(about.id.clone());
    document.set_metadata(match about.date {
        Some(date) => metadata.creation_date(date_time(date)),
        None => metadata,
    });
    Ok(document)
}

fn date_time(at: OffsetDateTime) -> DateTime {
    let at = at.to_offset(UtcOffset::UTC);
    DateTime::new(u16::try_from(at.year()).unwrap_or_default())
        .month(u8::from(at.month()))
        .day(at.day())
        .hour(at.hour())
        .minute(at.minute())
        .second(at.second())
        .utc_offset_hour(0)
        .utc_offset_minute(0)
}
