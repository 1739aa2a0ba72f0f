//! The storage of the reports' files: files without rows, and rows without files.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use artifacts::{ArtifactPath, ArtifactStore, ListedFile, Prefix, StorageConfig, StorageUrl};
use futures::{StreamExt, TryStreamExt, stream};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    check::{Area, Check},
    postgres::QUERY_FAILED,
};

/// The number of newest files to look for.
const NEWEST: i64 = 200;
/// Requests to the storage at once.
const CONCURRENT: usize = 8;
/// Upper bound of listed files.
const MAX_LISTED: usize = 20_000;
/// Files that are compared with the rows at once.
const BATCH: usize = 500;
/// The report-service deletes orphans that are older than 20 minutes, every five minutes.
const ORPHAN_AGE: Duration = Duration::from_secs(40 * 60);
const UNREADABLE: &str = "see PASSBOOK_REPORT_STORAGE_URL and the credentials of the storage, and \
                          whether it runs; until then, reports wait and downloads are answered with \
                          503";

/// Compares the storage with the rows of the report database.
pub(super) async fn check(config: &StorageConfig, connection: &mut PgConnection) -> Vec<Check> {
    let mut area = Area::new("report storage");
    let opened = async { open(config) };
    let Some(storage) = area.attempt("reachable", UNREADABLE, opened).await else {
        return area.into_checks();
    };
    check_rows(&mut area, &storage, connection).await;
    check_files(&mut area, &storage, connection).await;
    area.into_checks()
}

fn open(config: &StorageConfig) -> Result<ArtifactStore> {
    if let StorageUrl::Folder(path) = &config.url {
        // Opening would create it.
        ensure!(path.is_dir(), "there is no folder {}", path.display());
    }
    ArtifactStore::open(config)
}

/// Finds rows without a file of their size.
async fn check_rows(area: &mut Area, storage: &ArtifactStore, connection: &mut PgConnection) {
    const CHECK: &str = "files of reports";
    let lookup = async {
        let query = "SELECT path, size FROM report_artifacts
                     WHERE deleted_at IS NULL AND expires_at > now()
                     ORDER BY report_id DESC LIMIT $1";
        let rows: Vec<(String, i64)> =
            sqlx::query_as(query).bind(NEWEST).fetch_all(connection).await?;
        let count = rows.len();
        let damaged = stream::iter(rows)
            .map(async |(path, size)| {
                let file = path.parse::<ArtifactPath>().with_context(|| path.clone())?;
                let is_there = storage.head(&file).await? == u64::try_from(size).ok();
                Ok::<_, anyhow::Error>((!is_there).then_some(path))
            })
            .buffer_unordered(CONCURRENT)
            .try_filter_map(async |damaged| Ok(damaged))
            .try_collect::<Vec<_>>()
            .await?;
        Ok((count, damaged))
    };
    let Some((count, damaged)) = area.attempt(CHECK, UNREADABLE, lookup).await else { return };
    match damaged.first() {
        None => area.fine(CHECK, format!("the newest {count} are there")),
        Some(first) => {
            let detail = format!(
                "{} of the newest {count} are missing or have another size, such as {first}",
                damaged.len()
            );
            let advice = "restore the storage from its backup, or ask for these reports again: the \
                          same statement has the same bytes";
            area.finding(CHECK, detail, advice);
        }
    }
}

/// Finds old files without a row.
async fn check_files(area: &mut Area, storage: &ArtifactStore, connection: &mut PgConnection) {
    const CHECK: &str = "orphaned files";
    let lookup = async {
        let old = OffsetDateTime::now_utc() - ORPHAN_AGE;
        let listed = storage.list(Prefix::All).take(MAX_LISTED);
        let listed = listed.try_filter(|file| std::future::ready(file.modified < old));
        let mut batches = std::pin::pin!(listed.try_chunks(BATCH));
        let (mut orphans, mut first) = (0_usize, None);
        while let Some(batch) = batches.try_next().await.map_err(|error| error.1)? {
            let found = without_row(connection, &batch).await?;
            orphans += found.len();
            first = first.or_else(|| found.into_iter().next());
        }
        Ok((orphans, first))
    };
    let Some((orphans, first)) = area.attempt(CHECK, UNREADABLE, lookup).await else { return };
    match first {
        None => area.fine(CHECK, "none"),
        Some(first) => {
            let detail = format!("{orphans} files belong to no report, such as {first}");
            let advice = "the report-service deletes them within half an hour: check whether one runs \
                          and may delete files, and read its log";
            area.finding(CHECK, detail, advice);
        }
    }
}

/// The files that neither a row nor a running attempt needs.
async fn without_row(connection: &mut PgConnection, files: &[ListedFile]) -> Result<Vec<String>> {
    let paths: Vec<_> = files.iter().map(|file| file.path.to_string()).collect();
    let reports: Vec<Uuid> = files.iter().map(|file| file.path.report()).collect();
    let query = "
        SELECT file.path FROM unnest($1::text[], $2::uuid[]) AS file (path, report_id)
        WHERE NOT EXISTS (SELECT FROM report_artifacts a
                          WHERE a.path = file.path AND a.deleted_at IS NULL)
            AND NOT EXISTS (SELECT FROM reports r
                            WHERE r.id = file.report_id AND r.state = 'RUNNING')";
    let orphans = sqlx::query_scalar(query).bind(paths).bind(reports).fetch_all(connection);
    orphans.await.context(QUERY_FAILED)
}
