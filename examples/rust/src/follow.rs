//! Follows the event log.

use std::{
    fs,
    io::{self, ErrorKind, Write},
    path::Path,
    process::ExitCode,
};

use anyhow::{Context, Result};
use client::{Client, Event, EventFilter};

use crate::journal::replace;

/// Prints each event, and stores its id as the cursor. A crash between the two repeats one event:
/// a handler must be one that may run twice, or store its effect and the cursor in one transaction.
pub(crate) async fn run(client: &Client, cursor: &Path) -> Result<ExitCode> {
    let last = match fs::read_to_string(cursor) {
        Ok(last) => Some(last.trim().to_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| cursor.display().to_string()),
    };
    let mut events = client.follow(EventFilter::default(), last);
    loop {
        // A lost connection is replaced inside, and the new one goes on after the last event.
        let event = events.next().await?;
        handle(&event)?;
        replace(cursor, &event.id)?;
    }
}

fn handle(event: &Event) -> Result<()> {
    let mut output = io::stdout().lock();
    serde_json::to_writer(&mut output, event)?;
    output.write_all(b"\n")?;
    Ok(output.flush()?)
}
