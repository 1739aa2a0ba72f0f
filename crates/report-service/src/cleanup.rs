//! Deletes files: expired ones, and orphans. Orphans are files without a row: of
//! fenced or failed attempts, of crashed workers, and of an external renderer that
//! answered after its time. Also deletes the temporary files of crashed workers.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use artifacts::{ArtifactPath, ArtifactStore, ListedFile, Prefix};
use contract::ReportId;
use futures::{StreamExt, pin_mut};
use runtime::postgres::PgPool;
use runtime::{postgres::limited, tasks::sleep_unless_stopped};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use uuid::fmt::Hyphenated;

use crate::{report::AttemptKey, store};

/// Expired files of a page.
const PAGE: i64 = 1000;
/// A file younger than this may belong to an attempt whose commit is in progress, or
/// to a renderer that may take 15 minutes.
const ORPHAN_AGE: Duration = Duration::from_secs(20 * 60);

/// Deletes files.
#[derive(Debug)]
pub struct Cleanup {
    /// The database with the reports.
    pub pool: PgPool,
    /// The storage.
    pub storage: Arc<ArtifactStore>,
    /// The directory of temporary files.
    pub scratch: PathBuf,
    /// The interval between two rounds.
    pub every: Duration,
}

impl Cleanup {
    /// Runs rounds until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        while sleep_unless_stopped(self.every, &stop).await {
            if let Some(Err(error)) = stop.run_until_cancelled(self.run_once()).await {
                tracing::warn!(error = format!("{error:#}"), "cleaning up files failed; retrying");
            }
        }
    }

    /// Runs one round. An error about one file, or of one part of the round, does not keep the
    /// others: the next round would meet it again.
    ///
    /// # Errors
    /// The first one.
    pub async fn run_once(&self) -> anyhow::Result<()> {
        let mut first = FirstError::default();
        first.note(self.delete_expired().await);
        first.note(self.delete_scratch().await);
        // A killed process leaves files that no listing shows.
        let removed = self.storage.remove_unfinished(ORPHAN_AGE).await;
        first.note(removed.map(drop).context("deleting unfinished files"));
        first.note(delete_listed(&self.pool, &self.storage, Prefix::All, is_old).await);
        first.result()
    }

    /// Deletes the temporary files of attempts that no longer run. A killed worker leaves
    /// them, and they can be large.
    async fn delete_scratch(&self) -> anyhow::Result<()> {
        let Ok(mut entries) = tokio::fs::read_dir(&self.scratch).await else { return Ok(()) };
        while let Some(entry) = entries.next_entry().await? {
            let name = entry.file_name();
            let Some((id, attempt)) = name.to_str().and_then(attempt_of) else { continue };
            // Another system may use the same directory.
            if limited(store::exists(&self.pool, id)).await??
                && !limited(store::is_wanted(&self.pool, id, attempt, "")).await??
                && tokio::fs::remove_dir_all(entry.path()).await.is_ok()
            {
                tracing::info!(report.id = %id, attempt, "deleted the temporary files of an attempt");
            }
        }
        Ok(())
    }

    /// Deletes all expired files, page by page: those that can't be deleted stay on their page.
    async fn delete_expired(&self) -> anyhow::Result<()> {
        let mut first = FirstError::default();
        let mut last = None;
        loop {
            let page = limited(store::expired(&self.pool, last.as_ref(), PAGE)).await??;
            for file in &page {
                // A path that this version does not write can't be deleted by it either.
                if let Ok(path) = file.path.parse::<ArtifactPath>() {
                    let deleted = self.storage.delete(&path).await;
                    if let Err(error) = deleted.with_context(|| format!("deleting {path}")) {
                        first.note(Err(error));
                        continue;
                    }
                }
                limited(store::set_deleted(&self.pool, file)).await??;
            }
            last = page.into_iter().next_back();
            if last.is_none() {
                return first.result();
            }
        }
    }
}

/// The first error of several steps.
#[derive(Debug, Default)]
struct FirstError(Option<anyhow::Error>);

impl FirstError {
    fn note(&mut self, step: anyhow::Result<()>) {
        if let Err(error) = step {
            self.0.get_or_insert(error);
        }
    }

    fn result(self) -> anyhow::Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}

/// The name of an attempt's directory of temporary files.
pub(crate) fn scratch_name(key: AttemptKey) -> String {
    format!("{}-{}-{}", key.report, key.number, key.fence_text())
}

/// The attempt of a directory of temporary files. An earlier release has no fence in the name.
fn attempt_of(name: &str) -> Option<(ReportId, i32)> {
    let (id, rest) = name.split_at_checked(Hyphenated::LENGTH)?;
    let attempt = rest.strip_prefix('-')?.split('-').next()?;
    Some((id.parse().ok()?, attempt.parse().ok()?))
}

fn is_old(file: &ListedFile) -> bool {
    let age = OffsetDateTime::now_utc() - file.modified;
    age > ORPHAN_AGE
}

/// Deletes the unwanted files of an attempt.
///
/// # Errors
/// The first one. It does not keep the other files.
pub(crate) async fn delete_unwanted(
    pool: &PgPool,
    storage: &ArtifactStore,
    (report, attempt): (ReportId, i32),
) -> anyhow::Result<()> {
    let attempt = u32::try_from(attempt).context("the number of the attempt")?;
    delete_listed(pool, storage, Prefix::Attempt(report.as_uuid(), attempt), |_| true).await
}

/// Deletes the unwanted files among those below `prefix` that fit.
async fn delete_listed(
    pool: &PgPool,
    storage: &ArtifactStore,
    prefix: Prefix,
    fits: impl Fn(&ListedFile) -> bool,
) -> anyhow::Result<()> {
    let mut first = FirstError::default();
    let listed = storage.list(prefix);
    pin_mut!(listed);
    while let Some(file) = listed.next().await {
        match file.context("listing the storage") {
            Ok(file) if fits(&file) => {
                first.note(delete_if_unwanted(pool, storage, &file.path).await);
            }
            Ok(_) => {}
            Err(error) => first.note(Err(error)),
        }
    }
    first.result()
}

async fn delete_if_unwanted(
    pool: &PgPool,
    storage: &ArtifactStore,
    path: &ArtifactPath,
) -> anyhow::Result<()> {
    let report = ReportId::from_uuid(path.report());
    let attempt = i32::try_from(path.attempt()).unwrap_or(i32::MAX);
    let place = path.to_string();
    if !limited(store::is_wanted(pool, report, attempt, &place)).await?? {
        storage.delete(path).await.with_context(|| format!("deleting {path}"))?;
        metrics::counter!("passbook_report_orphans_deleted_total").increment(1);
        tracing::info!(path = %path, "deleted a file that belongs to no report");
    }
    Ok(())
}
