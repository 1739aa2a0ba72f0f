//! A statement as one JSON object: the fields of the statement, then `entries`, one
//! line each. Amounts are strings, so that no reader rounds them.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
};

use report_document::{Entries, Statement};

use crate::{Progress, RenderError, rows};

pub(crate) fn render(
    statement: &Statement,
    entries: &dyn Entries,
    file: &mut File,
    progress: Progress<'_>,
) -> Result<(), RenderError> {
    let mut file = BufWriter::new(file);
    file.write_all(statement.json_before_entries()?.as_bytes())?;
    let mut separator: &[u8] = b"\n";
    rows::for_each(statement, entries, progress, |entry| {
        file.write_all(separator)?;
        separator = b",\n";
        Ok(serde_json::to_writer(&mut file, entry).map_err(io::Error::from)?)
    })?;
    file.write_all(b"\n]}\n")?;
    Ok(file.flush()?)
}
