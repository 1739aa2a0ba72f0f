//! Which letters are meant.

use std::time::SystemTime;

use anyhow::Result;
use clap::Args;
use contract::RecordId;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    AT_ONCE, DeadLetters,
    letter::{self, Letter},
};
use crate::broker::{self, Walk};

/// Conditions that a letter has to meet, all of them.
#[derive(Debug, Clone, Args)]
pub(super) struct Filter {
    /// Only letters of this consumer, such as deposit-consumer.
    #[arg(long, value_name = "NAME")]
    consumer: Option<String>,
    /// Only letters whose reason contains this, in capitals or not.
    #[arg(long, value_name = "TEXT")]
    reason_contains: Option<String>,
    /// Only letters about this record.
    #[arg(long, value_name = "ID")]
    record: Option<RecordId>,
    /// Only letters kept since then: a time such as 2026-01-31T12:00:00Z, or an age such as 2h.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<OffsetDateTime>,
    /// Only letters kept before then.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    before: Option<OffsetDateTime>,
}

/// The letters that are meant: by id, by what they are, or all.
#[derive(Debug, Clone, Args)]
#[group(id = "selection", required = true, multiple = true,
        args = ["ids", "consumer", "reason_contains", "record", "since", "before", "all"])]
pub(super) struct Selection {
    /// Ids, as `passbook dlq ls` lists them.
    #[arg(value_name = "ID", value_parser = clap::value_parser!(u64).range(1..), conflicts_with_all = ["consumer", "reason_contains", "record", "since", "before", "all"])]
    ids: Vec<u64>,
    /// Every open letter.
    #[arg(long, conflicts_with_all = ["consumer", "reason_contains", "record", "since", "before"])]
    all: bool,
    #[command(flatten)]
    filter: Filter,
}

fn moment(text: &str) -> Result<OffsetDateTime, String> {
    if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(time);
    }
    let age = humantime::parse_duration(text).ok();
    let time = age.and_then(|age| SystemTime::now().checked_sub(age));
    time.map(Into::into)
        .ok_or_else(|| "must be like 2026-01-31T12:00:00Z, or an age like 2h".to_owned())
}

impl Filter {
    pub(super) fn takes(&self, letter: &Letter) -> bool {
        let reason = || letter.reason().to_lowercase();
        self.consumer.as_ref().is_none_or(|it| *it == letter.consumer)
            && self.reason_contains.as_ref().is_none_or(|it| reason().contains(&it.to_lowercase()))
            && self.record.is_none_or(|it| Some(it) == letter.record)
            && self.since.is_none_or(|it| letter.kept_at >= it)
            && self.before.is_none_or(|it| letter.kept_at < it)
    }
}

/// What a look for a selected letter found.
#[derive(Debug)]
pub(super) enum Found {
    Open(Letter),
    /// It is open no more.
    Closed(Letter),
    /// There is nothing of this id.
    Nothing(u64),
}

impl Found {
    /// The letter, if it is open.
    pub(super) const fn open(&self) -> Option<&Letter> {
        match self {
            Self::Open(letter) => Some(letter),
            _ => None,
        }
    }
}

/// The selected letters, some at a time.
pub(super) struct Selected<'a> {
    letters: &'a DeadLetters,
    source: Source<'a>,
}

enum Source<'a> {
    Ids(std::slice::Chunks<'a, u64>),
    All(Box<Walk>, &'a Filter),
}

impl Selection {
    /// The one letter that is meant by its id, if it is just that.
    pub(super) fn one(&self) -> Option<u64> {
        if let &[id] = self.ids.as_slice() { Some(id) } else { None }
    }

    /// Begins to look for them. Letters that come later are not meant.
    ///
    /// # Errors
    /// The broker's.
    pub(super) async fn of<'a>(&'a self, letters: &'a DeadLetters) -> Result<Selected<'a>> {
        let source = if self.ids.is_empty() {
            let walk = letters.walk(&letter::open_subjects("*")).await?;
            Source::All(Box::new(walk), &self.filter)
        } else {
            Source::Ids(self.ids.chunks(AT_ONCE))
        };
        Ok(Selected { letters, source })
    }
}

impl Selected<'_> {
    /// The next of them, in the order of their ids or as they were given;
    /// `None` at the end.
    ///
    /// # Errors
    /// The broker's.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Found>>> {
        match &mut self.source {
            Source::Ids(chunks) => {
                let Some(ids) = chunks.next() else { return Ok(None) };
                let mut found = Vec::with_capacity(ids.len());
                for id in ids {
                    found.push(find(self.letters, *id).await?);
                }
                Ok(Some(found))
            }
            Source::All(walk, filter) => {
                let Some(batch) = walk.next().await? else { return Ok(None) };
                let letters = batch.into_iter().filter_map(Letter::read);
                Ok(Some(letters.filter(|it| filter.takes(it)).map(Found::Open).collect()))
            }
        }
    }
}

/// The letter of this id, or what is written about its end.
///
/// # Errors
/// The broker's.
pub(super) async fn find(letters: &DeadLetters, id: u64) -> Result<Found> {
    let message = broker::found(letters.stream.get_raw_message(id).await)?;
    // What is kept of a closed letter has a sequence, too, and that is nobody's id.
    if let Some(letter) = message.and_then(Letter::read).filter(|it| it.closed.is_none()) {
        return Ok(Found::Open(letter));
    }
    let subjects = letter::closed_subjects_of(id);
    let last = letters.stream.get_last_raw_message_by_subject(&subjects).await;
    let closed = broker::found(last)?.and_then(Letter::read);
    Ok(closed.map_or(Found::Nothing(id), Found::Closed))
}

/// Every letter on these subjects that passes the filter, oldest first.
///
/// # Errors
/// The broker's, and those of `see`.
pub(super) async fn walk(
    letters: &DeadLetters,
    subjects: &str,
    filter: &Filter,
    mut see: impl FnMut(Letter),
) -> Result<()> {
    let mut walk = letters.walk(subjects).await?;
    while let Some(batch) = walk.next().await? {
        batch.into_iter().filter_map(Letter::read).filter(|it| filter.takes(it)).for_each(&mut see);
    }
    Ok(())
}
