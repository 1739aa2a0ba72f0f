//! Checks the reports: one state each, one set of files each, one at a time, and nothing that fails
//! or waits in silence.
//!
//! All checks read one snapshot. PostgreSQL finds the violations, so that memory does not grow with
//! the number of reports.

use std::time::Duration;

use anyhow::Result;
use reconciliation::{Check, DatedTable, Finding, check_tables, rows};
use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

use super::report::LISTED;
use crate::{arguments::ReportQueueArguments, database};

/// The result of the checks over the report database.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReportFindings {
    clear: Check,
    complete: Check,
    alone: Check,
    alerted: Check,
    woken: Check,
}

impl ReportFindings {
    pub(super) const fn checks(&self) -> [&Check; 5] {
        [&self.clear, &self.complete, &self.alone, &self.alerted, &self.woken]
    }
}

/// Their times are checked too.
const DATED: DatedTable =
    DatedTable { row: "report", table: "reports", id: "id", time: "created_at" };

/// Checks the report database at this URL. A report may be due without an attempt for `limit`. Times
/// in the future are counted in `dated`.
///
/// # Errors
/// When the database can't be read.
pub(super) async fn verify(
    url: &str,
    limits: &ReportQueueArguments,
    limit: Duration,
    dated: &mut Check,
) -> Result<ReportFindings> {
    let mut database = database::connect(url).await?;
    let begin = sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT 1");
    rows::answered(begin.execute(&mut database)).await?;
    check_tables(&mut database, &[DATED], dated).await?;
    let limit = limit.as_secs_f64();
    let running = f64::from(limits.max_running);
    let failures = f64::from(limits.max_failures);
    Ok(ReportFindings {
        clear: CLEAR.run(&mut database, failures).await?,
        complete: COMPLETE.run(&mut database, 0.0).await?,
        alone: ALONE.run(&mut database, running).await?,
        alerted: ALERTED.run(&mut database, failures).await?,
        woken: WOKEN.run(&mut database, limit).await?,
    })
}

/// A check in SQL.
struct Query {
    invariant: &'static str,
    meaning: &'static str,
    of: &'static str,
    /// The number of compared rows.
    count: &'static str,
    /// A report's id and what is wrong with it, for each violation. $1 is the check's limit.
    violations: &'static str,
}

impl Query {
    async fn run(&self, database: &mut PgConnection, limit: f64) -> Result<Check> {
        let mut check = Check::new(self.invariant, self.meaning, self.of, LISTED);
        let compared: i64 =
            rows::answered(sqlx::query_scalar(self.count).fetch_one(&mut *database)).await?;
        let violations = sqlx::query_as::<_, (Uuid, String)>(self.violations);
        let mut violations = violations.bind(limit).fetch(database);
        let mut found = 0;
        while let Some((id, detail)) = rows::next(&mut violations).await? {
            check.count(Some(Finding::new(format!("report {id}"), detail)));
            found += 1;
        }
        check.count_sound(usize::try_from(compared)?.saturating_sub(found));
        Ok(check)
    }
}

/// $1: the failures after which a report is FAILED.
const CLEAR: Query = Query {
    invariant: "clear",
    meaning: "a report is in one state, and its attempts 1, 2, 3 … agree with it",
    of: "reports",
    count: "SELECT count(*) FROM reports",
    violations: "
        WITH attempts AS (
            SELECT report_id, count(*) AS number, min(number) AS first, max(number) AS last,
                   count(*) FILTER (WHERE ended_at IS NULL) AS open,
                   max(number) FILTER (WHERE ended_at IS NULL) AS open_number,
                   count(*) FILTER (WHERE outcome IN ('FAILED', 'LOST')) AS failed
            FROM report_attempts GROUP BY report_id
        ), checked AS (
            SELECT r.id, concat_ws('; ',
                CASE WHEN r.state NOT IN ('QUEUED', 'RUNNING', 'SUCCEEDED', 'FAILED', 'CANCELLED')
                    THEN format('has the unknown state %s', r.state) END,
                CASE WHEN (r.state = 'RUNNING') <> (r.lease_until IS NOT NULL)
                        OR (r.state = 'RUNNING') <> (r.worker IS NOT NULL)
                        OR (r.state IN ('QUEUED', 'RUNNING')) <> (r.ended_at IS NULL)
                    THEN format('is %s, but its lease, its worker or its end disagree', r.state) END,
                CASE WHEN coalesce(a.number, 0) <> r.attempt
                        OR a.first <> 1 OR a.last <> r.attempt
                    THEN format('is at attempt %s, but has %s attempts, from %s to %s', r.attempt,
                                coalesce(a.number, 0), coalesce(a.first, 0), coalesce(a.last, 0))
                    END,
                CASE WHEN coalesce(a.open, 0) <> (r.state = 'RUNNING')::int
                        OR a.open_number <> r.attempt
                    THEN format('is %s, but %s attempts have not ended', r.state,
                                coalesce(a.open, 0)) END,
                CASE WHEN r.failures > coalesce(a.failed, 0)
                    THEN format('counts %s failures, but %s attempts failed', r.failures,
                                coalesce(a.failed, 0)) END,
                CASE WHEN r.state IN ('QUEUED', 'RUNNING') AND r.failures >= $1
                    THEN format('is %s after %s failures', r.state, r.failures) END
            ) AS detail
            FROM reports r LEFT JOIN attempts a ON a.report_id = r.id
        )
        SELECT id, detail FROM checked WHERE detail <> '' ORDER BY id",
};

const COMPLETE: Query = Query {
    invariant: "complete",
    meaning: "a SUCCEEDED report has one file of each format, all of its one successful attempt",
    of: "reports",
    count: "SELECT count(*) FROM reports",
    violations: "
        WITH successes AS (
            SELECT report_id, count(*) AS number, max(number) AS last
            FROM report_attempts WHERE outcome = 'SUCCEEDED' GROUP BY report_id
        ), files AS (
            SELECT report_id, array_agg(format ORDER BY format) AS formats,
                   min(attempt) AS first, max(attempt) AS last,
                   bool_and(starts_with(path, report_id || '/' || attempt || '/')) AS placed
            FROM report_artifacts GROUP BY report_id
        ), checked AS (
            SELECT r.id, concat_ws('; ',
                CASE WHEN coalesce(s.number, 0) <> (r.state = 'SUCCEEDED')::int
                        OR s.last <> r.attempt
                    THEN format('is %s at attempt %s, but %s attempts SUCCEEDED', r.state, r.attempt,
                                coalesce(s.number, 0)) END,
                CASE WHEN r.state = 'SUCCEEDED' AND f.formats IS DISTINCT FROM
                        (SELECT array_agg(wanted ORDER BY wanted) FROM unnest(r.formats) AS wanted)
                    THEN format('was asked for %s, but has %s',
                                array_to_string(r.formats, ', '),
                                coalesce(array_to_string(f.formats, ', '), 'no files')) END,
                CASE WHEN r.state <> 'SUCCEEDED' AND f.report_id IS NOT NULL
                    THEN format('is %s, but has files', r.state) END,
                CASE WHEN f.first <> r.attempt OR f.last <> r.attempt OR NOT f.placed
                    THEN 'has files of another attempt or in another place' END
            ) AS detail
            FROM reports r
            LEFT JOIN successes s ON s.report_id = r.id
            LEFT JOIN files f ON f.report_id = r.id
        )
        SELECT id, detail FROM checked, (SELECT $1::float8) AS unused WHERE detail <> '' ORDER BY id",
};

/// $1: the number of reports that may run at the same time. A lost attempt does not count: its lease
/// was over before the next attempt began, but its end was written later.
///
/// Only the database's clock orders the attempts of different reports. If that clock jumps, attempts
/// of both times overlap for ever. So only attempts of the last day are compared, and a finding ends.
/// An end in the future is from a wrong clock.
const ALONE: Query = Query {
    invariant: "alone",
    meaning: "reports run one at a time",
    of: "attempts",
    count: "SELECT count(*) FROM report_attempts
            WHERE ended_at IS NULL OR ended_at BETWEEN now() - interval '1 day' AND now()",
    violations: "
        WITH recent AS (
            SELECT a.report_id, a.number, a.started_at AS began,
                   coalesce(a.ended_at, r.lease_until) AS ended
            FROM report_attempts a JOIN reports r ON r.id = a.report_id
            WHERE a.outcome IS DISTINCT FROM 'LOST'
                AND (a.ended_at IS NULL OR a.ended_at BETWEEN now() - interval '1 day' AND now())
        ), events AS (
            SELECT began AS at, 1 AS change, report_id, number FROM recent
            UNION ALL
            SELECT ended, -1, report_id, number FROM recent
        ), counted AS (
            SELECT *, sum(change) OVER (ORDER BY at, change ROWS UNBOUNDED PRECEDING) AS running
            FROM events
        )
        SELECT report_id, format('began attempt %s while %s others ran, at %s (reported for a day)',
                                 number, running - 1, at)
        FROM counted WHERE change = 1 AND running > $1 ORDER BY at",
};

/// $1: the failures after which an alert is due.
const ALERTED: Query = Query {
    invariant: "alerted",
    meaning: "a report that FAILED after its last attempt has an alert",
    of: "FAILED reports",
    count: "SELECT count(*) FROM reports WHERE state = 'FAILED'",
    violations: "
        SELECT r.id, format('is FAILED after %s failures and has no alert', r.failures)
        FROM reports r
        WHERE r.state = 'FAILED' AND r.failures >= $1
            AND NOT EXISTS (SELECT FROM report_alerts a WHERE a.report_id = r.id)
        UNION ALL
        SELECT r.id, format('has an alert, but is %s', r.state)
        FROM report_alerts a JOIN reports r ON r.id = a.report_id
        WHERE r.state <> 'FAILED'",
};

/// $1: the longest silence, in seconds. A report behind others is no violation while those run.
const WOKEN: Query = Query {
    invariant: "woken",
    meaning: "a report that is due gets a message and an attempt",
    of: "open reports",
    count: "SELECT count(*) FROM reports WHERE state IN ('QUEUED', 'RUNNING')",
    violations: "
        WITH silence AS (SELECT now() - make_interval(secs => $1) AS since)
        SELECT r.id, format('is due since %s; its last message is %s, and no report ran meanwhile',
                            r.not_before, coalesce('of ' || r.sent_at, 'missing'))
        FROM reports r, silence
        WHERE r.state = 'QUEUED' AND r.not_before < since
            AND NOT EXISTS (SELECT FROM report_attempts WHERE coalesce(ended_at, now()) > since)
        UNION ALL
        SELECT r.id, format('lost its worker %s at %s and is not QUEUED again', r.worker, r.lease_until)
        FROM reports r, silence
        WHERE r.state = 'RUNNING' AND r.lease_until < since",
};

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = include_str!("../../../../deploy/observability/prometheus/rules.yaml");
    const RUNBOOK: &str = include_str!("../../../../docs/runbook.md");

    #[test]
    fn findings_about_reports_open_a_ticket_and_never_page() {
        let queries = [CLEAR, COMPLETE, ALONE, ALERTED, WOKEN];
        let invariants = queries.map(|query| query.invariant);
        let names = invariants.join("|");
        for matcher in [format!("=~\"{names}\""), format!("!~\"dated|{names}\"")] {
            let selector = format!("passbook_verify_findings{{invariant{matcher}}}");
            assert!(RULES.contains(&selector), "rules.yaml has no {selector}");
        }
        let (_, entry) = RUNBOOK.split_once("\n### PassbookVerifyReportFindings\n").unwrap();
        let (entry, _) = entry.split_once("\n### ").unwrap();
        for invariant in invariants {
            assert!(entry.contains(&format!("\n| `{invariant}` | ")), "no row of {invariant}");
        }
    }
}
