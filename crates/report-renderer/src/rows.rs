//! The loop over the entries of a statement, for every format.

use std::io;

use report_document::{Entries, Entry, Statement};

use crate::{Progress, RenderError};

/// Rows between two calls of the progress callback.
const STEP: u64 = 1_000;

/// Writes every entry. The entries are checked against the statement, so that a file
/// that was cut off never becomes a statement.
pub(crate) fn for_each(
    statement: &Statement,
    entries: &dyn Entries,
    progress: Progress<'_>,
    mut write: impl FnMut(&Entry) -> Result<(), RenderError>,
) -> Result<(), RenderError> {
    let (mut rows, mut balance) = (0_u64, statement.opening.balance);
    for entry in entries.open()? {
        let entry = entry?;
        write(&entry)?;
        balance = entry.balance_after;
        rows = rows.saturating_add(1);
        if rows.is_multiple_of(STEP) && !progress(rows) {
            return Err(RenderError::Stopped);
        }
    }
    if rows != statement.entries() || balance != statement.closing.balance {
        return Err(invalid(format!(
            "the statement has {} entries and closes at {}, but {rows} entries were read, the last \
             with the balance {balance}",
            statement.entries(),
            statement.closing.balance,
        )));
    }
    if progress(rows) { Ok(()) } else { Err(RenderError::Stopped) }
}

fn invalid(detail: String) -> RenderError {
    RenderError::Io(io::Error::new(io::ErrorKind::InvalidData, detail))
}
