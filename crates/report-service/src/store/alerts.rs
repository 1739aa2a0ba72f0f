//! Alerts about reports that failed for good: each is sent until it was taken.

use contract::ReportId;
use runtime::postgres::PgPool;

use super::StoreError;

/// An alert to send.
#[derive(Debug, Clone)]
pub struct DueAlert {
    /// The report.
    pub report: ReportId,
    /// The JSON to send.
    pub payload: serde_json::Value,
    /// How often it was sent before.
    pub tries: i32,
    /// Whether the receiver took it.
    pub is_taken: bool,
    /// Whether the dead letter is published.
    pub is_dead_lettered: bool,
}

/// Claims due alerts. The next try is set before the alert is sent, so that two
/// replicas do not send it at the same time, and doubles from 5 s up to 10 minutes.
///
/// # Errors
/// [`StoreError`]
pub async fn claim_alerts(pool: &PgPool) -> Result<Vec<DueAlert>, StoreError> {
    let alerts = sqlx::query_as!(
        Row,
        r#"UPDATE report_alerts
           SET tries = tries + 1,
               next_try_at = clock_timestamp()
                   + make_interval(secs => least(600, 5 * 2 ^ least(tries, 10)))
           WHERE report_id IN (SELECT report_id FROM report_alerts
                               WHERE (taken_at IS NULL OR dead_lettered_at IS NULL)
                                   AND next_try_at <= clock_timestamp()
                               ORDER BY next_try_at LIMIT 20 FOR UPDATE SKIP LOCKED)
           RETURNING report_id, payload, tries - 1 AS "tries!", taken_at IS NOT NULL AS "is_taken!",
               dead_lettered_at IS NOT NULL AS "is_dead_lettered!""#
    );
    let alerts = alerts.fetch_all(pool).await?.into_iter().map(|row| DueAlert {
        report: ReportId::from_uuid(row.report_id),
        payload: row.payload,
        tries: row.tries,
        is_taken: row.is_taken,
        is_dead_lettered: row.is_dead_lettered,
    });
    Ok(alerts.collect())
}

struct Row {
    report_id: sqlx::types::Uuid,
    payload: serde_json::Value,
    tries: i32,
    is_taken: bool,
    is_dead_lettered: bool,
}

/// The receiver took the alert.
///
/// # Errors
/// [`StoreError`]
pub async fn set_alert_taken(pool: &PgPool, report: ReportId) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE report_alerts SET taken_at = clock_timestamp(), last_error = NULL
         WHERE report_id = $1 AND taken_at IS NULL",
        report.as_uuid(),
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// The receiver did not take the alert.
///
/// # Errors
/// [`StoreError`]
pub async fn set_alert_failed(
    pool: &PgPool,
    report: ReportId,
    error: &str,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE report_alerts SET last_error = $2 WHERE report_id = $1",
        report.as_uuid(),
        error,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// The dead letter of the report is in its stream.
///
/// # Errors
/// [`StoreError`]
pub async fn set_dead_lettered(pool: &PgPool, report: ReportId) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE report_alerts SET dead_lettered_at = clock_timestamp() WHERE report_id = $1",
        report.as_uuid(),
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// The number of alerts that were not taken yet.
///
/// # Errors
/// [`StoreError`]
pub async fn open_alerts(pool: &PgPool) -> Result<i64, StoreError> {
    let open = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM report_alerts WHERE taken_at IS NULL"#
    );
    Ok(open.fetch_one(pool).await?)
}
