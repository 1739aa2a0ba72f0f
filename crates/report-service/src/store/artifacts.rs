//! The files of SUCCEEDED reports.

use std::collections::HashMap;

use contract::ReportId;
use report_document::Format;
use runtime::postgres::PgPool;
use sqlx::types::Uuid;
use time::OffsetDateTime;

use super::StoreError;
use crate::report::Artifact;

struct Row {
    report_id: Uuid,
    format: String,
    path: String,
    size: i64,
    sha256: Vec<u8>,
    signature: Option<Vec<u8>>,
    file_name: String,
    expires_at: OffsetDateTime,
    is_deleted: bool,
}

impl TryFrom<Row> for Artifact {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let invalid = || StoreError::InvalidRow(row.report_id);
        Ok(Self {
            format: Format::parse(&row.format).ok_or_else(invalid)?,
            path: row.path,
            size: u64::try_from(row.size).map_err(|_| invalid())?,
            sha256: row.sha256.try_into().map_err(|_| StoreError::InvalidRow(row.report_id))?,
            signature: row.signature,
            file_name: row.file_name,
            expires_at: row.expires_at,
            is_deleted: row.is_deleted,
        })
    }
}

/// The files of a report, by format.
///
/// # Errors
/// [`StoreError`]
pub async fn artifacts_of(pool: &PgPool, id: ReportId) -> Result<Vec<Artifact>, StoreError> {
    sqlx::query_as!(
        Row,
        r#"SELECT report_id, format, path, size, sha256, signature, file_name, expires_at,
                  (deleted_at IS NOT NULL OR expires_at <= clock_timestamp()) AS "is_deleted!"
           FROM report_artifacts WHERE report_id = $1 ORDER BY format"#,
        id.as_uuid(),
    )
    .fetch_all(pool)
    .await?
    .into_iter()
    .map(Artifact::try_from)
    .collect()
}

/// The file of a report in a format.
///
/// # Errors
/// [`StoreError`]
pub async fn artifact(
    pool: &PgPool,
    id: ReportId,
    format: Format,
) -> Result<Option<Artifact>, StoreError> {
    let artifacts = artifacts_of(pool, id).await?;
    Ok(artifacts.into_iter().find(|artifact| artifact.format == format))
}

/// A file whose time is over.
#[derive(Debug, Clone)]
pub struct Expired {
    /// The report.
    pub report_id: Uuid,
    /// The format's name.
    pub format: String,
    /// Its place in the storage.
    pub path: String,
    /// The end of its time.
    pub expires_at: OffsetDateTime,
}

/// Expired files that are not deleted yet, behind this one.
///
/// # Errors
/// [`StoreError`]
pub async fn expired(
    pool: &PgPool,
    after: Option<&Expired>,
    limit: i64,
) -> Result<Vec<Expired>, StoreError> {
    let expired = sqlx::query_as!(
        Expired,
        "SELECT report_id, format, path, expires_at FROM report_artifacts
         WHERE deleted_at IS NULL AND expires_at <= clock_timestamp()
             AND ($2::timestamptz IS NULL OR (expires_at, report_id, format) > ($2, $3, $4))
         ORDER BY expires_at, report_id, format LIMIT $1",
        limit,
        after.map(|file| file.expires_at),
        after.map(|file| file.report_id),
        after.map(|file| file.format.as_str()),
    );
    Ok(expired.fetch_all(pool).await?)
}

/// Records that an expired file was deleted. If another transaction holds the row, nothing
/// changes: the file is found again by [`expired`].
///
/// # Errors
/// [`StoreError`]
pub async fn set_deleted(pool: &PgPool, file: &Expired) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE report_artifacts SET deleted_at = clock_timestamp()
         WHERE (report_id, format) IN (
             SELECT report_id, format FROM report_artifacts
             WHERE report_id = $1 AND format = $2 FOR NO KEY UPDATE SKIP LOCKED)",
        file.report_id,
        file.format,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Whether a stored file is needed: it belongs to a SUCCEEDED report, or to the
/// attempt that runs.
///
/// # Errors
/// [`StoreError`]
pub async fn is_wanted(
    pool: &PgPool,
    id: ReportId,
    attempt: i32,
    path: &str,
) -> Result<bool, StoreError> {
    let wanted = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM report_artifacts WHERE path = $3 AND deleted_at IS NULL)
               OR EXISTS (SELECT FROM reports
                          WHERE id = $1 AND attempt = $2 AND state = 'RUNNING') AS "wanted!""#,
        id.as_uuid(),
        attempt,
        path,
    );
    Ok(wanted.fetch_one(pool).await?)
}

/// The files of these reports.
///
/// # Errors
/// [`StoreError`]
pub async fn artifacts_of_all(
    pool: &PgPool,
    ids: &[ReportId],
) -> Result<HashMap<ReportId, Vec<Artifact>>, StoreError> {
    let ids: Vec<_> = ids.iter().map(|id| id.as_uuid()).collect();
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT report_id, format, path, size, sha256, signature, file_name, expires_at,
                  (deleted_at IS NOT NULL OR expires_at <= clock_timestamp()) AS "is_deleted!"
           FROM report_artifacts WHERE report_id = ANY($1) ORDER BY report_id, format"#,
        &ids,
    );
    let mut artifacts: HashMap<_, Vec<_>> = HashMap::new();
    for row in rows.fetch_all(pool).await? {
        let report = ReportId::from_uuid(row.report_id);
        artifacts.entry(report).or_default().push(Artifact::try_from(row)?);
    }
    Ok(artifacts)
}
