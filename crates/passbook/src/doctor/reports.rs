//! The report database: reports without a worker, a queue that stands still, and alerts nobody took.

use std::time::Duration;

use anyhow::Result;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    check::{Area, Check, STUCK},
    postgres::{QUERY_FAILED, check_common, close},
    report_storage,
};
use crate::{age, migrations};

/// Checks the report-service's database and, with a storage, the files of its rows.
pub(super) async fn check(
    url: Option<&str>,
    queue_limit: Duration,
    storage: Option<&artifacts::StorageConfig>,
) -> Vec<Check> {
    let mut area = Area::new("report database");
    let Some(mut connection) = check_common(&mut area, url, &migrations::REPORT).await else {
        return area.into_checks();
    };
    check_running(&mut area, &mut connection).await;
    check_queue(&mut area, &mut connection, queue_limit).await;
    check_alerts(&mut area, &mut connection).await;
    let mut checks = area.into_checks();
    if let Some(storage) = storage {
        checks.extend(report_storage::check(storage, &mut connection).await);
    }
    close(connection).await;
    checks
}

async fn check_running(area: &mut Area, connection: &mut PgConnection) {
    const CHECK: &str = "RUNNING reports";
    type Row = (Uuid, Option<String>, i64, i64);
    let lookup = async {
        let query = "SELECT id, worker, extract(epoch FROM now() - lease_until)::bigint,
                            count(*) OVER ()
                     FROM reports WHERE state = 'RUNNING' ORDER BY lease_until LIMIT 1";
        Ok(sqlx::query_as::<_, Row>(query).fetch_optional(connection).await?)
    };
    let Some(row) = area.attempt(CHECK, QUERY_FAILED, lookup).await else { return };
    let Some((id, worker, seconds, count)) = row else { return area.fine(CHECK, "none") };
    let age = age::from_seconds(seconds);
    if age > STUCK {
        let worker = worker.unwrap_or_default();
        let detail = format!("the lease of report {id} is over: its worker {worker} is away,");
        let advice = "start a report-service: it queues the report again within seconds; if one runs, \
                      see the end of its log";
        area.lasting(CHECK, detail, age, advice);
    } else {
        area.fine(CHECK, count.to_string());
    }
}

/// The oldest due report.
#[derive(Debug, sqlx::FromRow)]
struct OldestDue {
    id: Uuid,
    /// Of all due reports.
    count: i64,
    /// Seconds since it is due.
    due_for: i64,
    /// Seconds since it is due and no attempt ended.
    idle_for: i64,
    /// Whether another report runs.
    busy: bool,
}

async fn check_queue(area: &mut Area, connection: &mut PgConnection, limit: Duration) {
    const CHECK: &str = "QUEUED reports";
    let lookup = async {
        let query = "
            SELECT id, count(*) OVER () AS count,
                   extract(epoch FROM now() - not_before)::bigint AS due_for,
                   extract(epoch FROM now() - greatest(not_before,
                       (SELECT max(ended_at) FROM report_attempts)))::bigint AS idle_for,
                   EXISTS (SELECT FROM reports WHERE state = 'RUNNING' AND lease_until > now()) AS busy
            FROM reports WHERE state = 'QUEUED' AND not_before <= now() ORDER BY position LIMIT 1";
        Ok(sqlx::query_as::<_, OldestDue>(query).fetch_optional(connection).await?)
    };
    let Some(row) = area.attempt(CHECK, QUERY_FAILED, lookup).await else { return };
    let Some(OldestDue { id, count, due_for, idle_for, busy }) = row else {
        return area.fine(CHECK, "none is due");
    };
    let (due_for, idle_for) = (age::from_seconds(due_for), age::from_seconds(idle_for));
    if !busy && idle_for > STUCK {
        let detail = format!("{count} are due and none runs; the oldest, {id}, waits");
        let advice = "start a report-service; if one runs, see the findings about NATS, its stream job \
                      and its consumer, and the log of the process";
        area.lasting(CHECK, detail, idle_for, advice);
    } else if due_for > limit {
        let detail = format!("{count} are due behind a running one; the oldest, {id}, waits");
        let advice = "look at the running one with `passbook reports ls --state running`: wait, cancel \
                      it, or raise PASSBOOK_REPORT_MAX_ACK_PENDING if the servers bear more";
        area.lasting(CHECK, detail, due_for, advice);
    } else {
        area.fine(CHECK, format!("{count} wait"));
    }
}

async fn check_alerts(area: &mut Area, connection: &mut PgConnection) {
    for (check, column, what, advice) in [
        (
            "report alerts",
            "taken_at",
            "alerts about FAILED reports were not taken",
            "see PASSBOOK_REPORT_ALERT_WEBHOOK_URL and its receiver: the report-service repeats each \
             alert until the receiver answers with 2xx",
        ),
        (
            "report dead letters",
            "dead_lettered_at",
            "FAILED reports have no dead letter",
            "see the findings about NATS: the report-service writes the dead letters once NATS is back",
        ),
    ] {
        let Some(open) = area.attempt(check, QUERY_FAILED, open_alerts(connection, column)).await
        else {
            continue;
        };
        match open {
            Some((count, seconds, error)) if age::from_seconds(seconds) > STUCK => {
                let error = error.map(|error| format!(" ({error})")).unwrap_or_default();
                let detail = format!("{count} {what}{error}, the oldest");
                area.lasting(check, detail, age::from_seconds(seconds), advice);
            }
            Some((count, ..)) => area.fine(check, format!("{count} on their way")),
            None => area.fine(check, "none waits"),
        }
    }
}

/// The number of alerts without this time, the age of the oldest in seconds and its last error.
async fn open_alerts(
    connection: &mut PgConnection,
    column: &'static str,
) -> Result<Option<(i64, i64, Option<String>)>> {
    let query = format!(
        "SELECT count(*) OVER (), extract(epoch FROM now() - created_at)::bigint, last_error
         FROM report_alerts WHERE {column} IS NULL ORDER BY created_at LIMIT 1"
    );
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(query)).fetch_optional(connection).await?)
}
