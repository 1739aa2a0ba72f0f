//! Times in the future that no clock would write now: the database's clock was ahead when
//! they were written. Uncapped, they would hold up reports for as long.

use std::time::Duration;

use runtime::postgres::PgPool;

use super::StoreError;
use crate::job::LONGEST_DELAY;

/// Shortens the times of open reports and alerts to the longest that the present time
/// allows. A live attempt extends its lease again; a dead one is lost after `lease`. A
/// lease of another length, during a change of the setting, is left alone up to twice
/// the length. So is a row that another transaction holds, until a later call.
///
/// # Errors
/// [`StoreError`]
pub async fn cap_times(pool: &PgPool, lease: Duration) -> Result<u64, StoreError> {
    let longest = LONGEST_DELAY.as_secs_f64();
    let reports = sqlx::query!(
        "WITH limits AS (
             SELECT clock_timestamp() AS now,
                 clock_timestamp() + make_interval(secs => $1) AS not_before,
                 clock_timestamp() + 2 * make_interval(secs => $2) AS lease_until
         )
         UPDATE reports AS r
         SET not_before = least(r.not_before, limits.not_before),
             lease_until = CASE WHEN r.lease_until > limits.lease_until
                 THEN limits.now + make_interval(secs => $2) ELSE r.lease_until END,
             sent_at = CASE WHEN r.sent_at <= limits.now THEN r.sent_at END
         FROM limits
         WHERE r.id = ANY (ARRAY(
             SELECT late.id FROM reports AS late, limits
             WHERE late.lane = 'default' AND late.state IN ('QUEUED', 'RUNNING')
                 AND (late.not_before > limits.not_before
                      OR late.lease_until > limits.lease_until OR late.sent_at > limits.now)
             ORDER BY late.id FOR NO KEY UPDATE OF late SKIP LOCKED))",
        longest,
        lease.as_secs_f64(),
    );
    let alerts = sqlx::query!(
        "UPDATE report_alerts SET next_try_at = clock_timestamp()
         WHERE report_id = ANY (ARRAY(
             SELECT report_id FROM report_alerts
             WHERE (taken_at IS NULL OR dead_lettered_at IS NULL)
                 AND next_try_at > clock_timestamp() + make_interval(secs => $1)
             ORDER BY report_id FOR NO KEY UPDATE SKIP LOCKED))",
        longest,
    );
    let reports = reports.execute(pool).await?.rows_affected();
    Ok(reports + alerts.execute(pool).await?.rows_affected())
}
