//! The common part of replaying and discarding: selects letters, looks up their records and lists
//! the dispositions.

use anyhow::Result;

use super::{
    claim::Closer,
    listing::{Disposition, Listing},
    lookup::RecordLookup,
    select::{Selected, Selection},
};
use crate::dead_letter::{DeadLetter, KnownRecords};

/// Processes each selected open letter, and lists the others as they are.
///
/// # Errors
/// The broker's, a database's, and those of `process`.
pub(super) async fn process_selected(
    selection: &Selection,
    closer: &Closer<'_>,
    mut lookup: Option<RecordLookup>,
    listing: &mut Listing,
    process: impl AsyncFn(&DeadLetter, Option<&KnownRecords>) -> Result<(Disposition, String)>,
) -> Result<()> {
    let mut batches = selection.open(closer.stream).await?;
    while let Some(batch) = batches.next_batch().await? {
        let open: Vec<_> = batch.iter().filter_map(Selected::as_open).collect();
        let known = match &mut lookup {
            Some(lookup) => Some(lookup.look_up(&open).await?),
            None => None,
        };
        for selected in &batch {
            match selected {
                Selected::Open(letter) => {
                    let (disposition, detail) = process(letter, known.as_ref()).await?;
                    listing.add(letter, disposition, &detail)?;
                }
                Selected::Closed(letter) => {
                    let (disposition, detail) = closer.closed_before(letter.closed.as_ref());
                    listing.add(letter, disposition, &detail)?;
                }
                Selected::Missing(id) => listing.add_missing(*id)?,
            }
        }
    }
    Ok(())
}
