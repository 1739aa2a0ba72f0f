//! Selects dead letters by id or by their properties.

use std::time::SystemTime;

use anyhow::Result;
use clap::Args;
use contract::{
    RecordId,
    dead_letter::{closed_subjects_of, open_subjects},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::stream::{BATCH, DeadLetterStream};
use crate::{
    broker::{self, StreamReader},
    dead_letter::DeadLetter,
};

/// Conditions on letters. A letter must meet all of them.
#[derive(Debug, Clone, Args)]
pub(super) struct Filter {
    /// Only letters of this consumer, such as deposit-consumer.
    #[arg(long, value_name = "NAME")]
    consumer: Option<String>,
    /// Only letters with this text in their reason. Case does not matter.
    #[arg(long, value_name = "TEXT")]
    reason_contains: Option<String>,
    /// Only letters about this record.
    #[arg(long, value_name = "ID")]
    record: Option<RecordId>,
    /// Only letters kept since this time, such as 2026-01-31T12:00:00Z, or for at most this age,
    /// such as 2h.
    #[arg(long, value_name = "TIME", value_parser = time_or_age)]
    since: Option<OffsetDateTime>,
    /// Only letters kept before this time, or for longer than this age.
    #[arg(long, value_name = "TIME", value_parser = time_or_age)]
    before: Option<OffsetDateTime>,
}

/// The selected letters: by id, by their properties, or all.
#[derive(Debug, Clone, Args)]
#[group(id = "selection", required = true, multiple = true,
        args = ["ids", "consumer", "reason_contains", "record", "since", "before", "all"])]
pub(super) struct Selection {
    /// Ids of letters, from `passbook dlq ls`.
    #[arg(value_name = "ID", value_parser = clap::value_parser!(u64).range(1..), conflicts_with_all = ["consumer", "reason_contains", "record", "since", "before", "all"])]
    ids: Vec<u64>,
    /// Every open letter.
    #[arg(long, conflicts_with_all = ["consumer", "reason_contains", "record", "since", "before"])]
    all: bool,
    #[command(flatten)]
    filter: Filter,
}

fn time_or_age(text: &str) -> Result<OffsetDateTime, String> {
    if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(time);
    }
    let age = humantime::parse_duration(text).ok();
    let time = age.and_then(|age| SystemTime::now().checked_sub(age));
    time.map(Into::into)
        .ok_or_else(|| "must be a time like 2026-01-31T12:00:00Z, or an age like 2h".to_owned())
}

impl Filter {
    pub(super) fn matches(&self, letter: &DeadLetter) -> bool {
        let reason = || letter.reason().to_lowercase();
        self.consumer.as_ref().is_none_or(|consumer| *consumer == letter.consumer)
            && self
                .reason_contains
                .as_ref()
                .is_none_or(|text| reason().contains(&text.to_lowercase()))
            && self.record.is_none_or(|record| letter.records.contains(&record))
            && self.since.is_none_or(|since| letter.kept_at >= since)
            && self.before.is_none_or(|before| letter.kept_at < before)
    }
}

/// A selected letter.
#[derive(Debug)]
pub(super) enum Selected {
    Open(DeadLetter),
    /// The closing note of a letter selected by its id.
    Closed(DeadLetter),
    /// An id without a letter.
    Missing(u64),
}

impl Selected {
    pub(super) const fn as_open(&self) -> Option<&DeadLetter> {
        match self {
            Self::Open(letter) => Some(letter),
            _ => None,
        }
    }
}

/// Reads the selected letters in batches.
pub(super) struct SelectedLetters<'a> {
    stream: &'a DeadLetterStream,
    source: Source<'a>,
}

enum Source<'a> {
    Ids(std::slice::Chunks<'a, u64>),
    Filtered(Box<StreamReader>, &'a Filter),
}

impl Selection {
    /// The id, if exactly one id selects.
    pub(super) fn single_id(&self) -> Option<u64> {
        if let &[id] = self.ids.as_slice() { Some(id) } else { None }
    }

    /// Starts reading the selected letters. Later letters are not selected.
    ///
    /// # Errors
    /// The broker's.
    pub(super) async fn open<'a>(
        &'a self,
        stream: &'a DeadLetterStream,
    ) -> Result<SelectedLetters<'a>> {
        let source = if self.ids.is_empty() {
            let reader = stream.read(&open_subjects("*")).await?;
            Source::Filtered(Box::new(reader), &self.filter)
        } else {
            Source::Ids(self.ids.chunks(BATCH))
        };
        Ok(SelectedLetters { stream, source })
    }
}

impl SelectedLetters<'_> {
    /// The next letters, in the order of the given ids or of the stream; `None` at the end.
    ///
    /// # Errors
    /// The broker's.
    pub(super) async fn next_batch(&mut self) -> Result<Option<Vec<Selected>>> {
        match &mut self.source {
            Source::Ids(chunks) => {
                let Some(ids) = chunks.next() else { return Ok(None) };
                let mut batch = Vec::with_capacity(ids.len());
                for id in ids {
                    batch.push(find(self.stream, *id).await?);
                }
                Ok(Some(batch))
            }
            Source::Filtered(reader, filter) => {
                let Some(batch) = reader.next_batch().await? else { return Ok(None) };
                let letters = batch.into_iter().filter_map(DeadLetter::parse);
                let letters = letters.filter(|letter| filter.matches(letter));
                Ok(Some(letters.map(Selected::Open).collect()))
            }
        }
    }
}

/// Finds a letter by its id, or the closing note about it.
async fn find(stream: &DeadLetterStream, id: u64) -> Result<Selected> {
    let message = broker::optional_message(stream.stream.get_raw_message(id).await)?;
    // Closing notes have sequences too, but these are not ids of letters.
    let letter = message.and_then(DeadLetter::parse).filter(|letter| letter.closed.is_none());
    if let Some(letter) = letter {
        return Ok(Selected::Open(letter));
    }
    let subjects = closed_subjects_of(id);
    let last = stream.stream.get_last_raw_message_by_subject(&subjects).await;
    let note = broker::optional_message(last)?.and_then(DeadLetter::parse);
    Ok(note.map_or(Selected::Missing(id), Selected::Closed))
}

/// Visits every letter on these subjects that matches the filter, oldest first.
///
/// # Errors
/// The broker's.
pub(super) async fn for_each_letter(
    stream: &DeadLetterStream,
    subjects: &str,
    filter: &Filter,
    mut visit: impl FnMut(DeadLetter),
) -> Result<()> {
    let mut reader = stream.read(subjects).await?;
    while let Some(batch) = reader.next_batch().await? {
        let letters = batch.into_iter().filter_map(DeadLetter::parse);
        letters.filter(|letter| filter.matches(letter)).for_each(&mut visit);
    }
    Ok(())
}
