//! Activity reports, requested and followed with `passbook reports`.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Deserialize;
use time::{Date, OffsetDateTime, serde::rfc3339};

use crate::{stack::Stack, wait::until};

/// Longer than a report over the largest history takes.
const LIMIT: Duration = Duration::from_mins(60);
/// Interval between checks of a running report, which itself takes processor time.
const INTERVAL: Duration = Duration::from_secs(1);

/// The part of the API's report that a measurement needs.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReportJob {
    report_id: String,
    state: String,
    error: Option<String>,
    #[serde(default)]
    attempts: Vec<Attempt>,
    progress: Option<Progress>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Attempt {
    #[serde(with = "rfc3339")]
    started_at: OffsetDateTime,
    #[serde(with = "rfc3339::option")]
    ended_at: Option<OffsetDateTime>,
}

#[derive(Debug, Deserialize)]
struct Progress {
    done: u64,
}

impl ReportJob {
    /// Requests an activity report as PDF, HTML and JSON. The period includes
    /// the whole history ([`crate::history`]), and nothing of today.
    pub(crate) async fn request(stack: &Stack) -> Result<Self> {
        let (from, to) = period(OffsetDateTime::now_utc().date());
        let (from, to) = (from.to_string(), to.to_string());
        let period = ["--from", &from, "--to", &to, "--format", "pdf,html,json"];
        passbook(stack, &[&["create", "activity"], &period[..]].concat()).await
    }

    /// Waits until the report reads the ledger.
    pub(crate) async fn reading(mut self, stack: &Stack) -> Result<Self> {
        until("the report to read rows", async || {
            self = self.current(stack).await?;
            ensure!(!self.has_ended(), "the report has ended: {self:?}");
            Ok(self.is_reading())
        })
        .await?;
        Ok(self)
    }

    /// # Errors
    /// The report has ended.
    pub(crate) async fn ensure_running(&self, stack: &Stack) -> Result<()> {
        let report = self.current(stack).await?;
        ensure!(report.is_reading(), "the report ended during the load: {report:?}");
        Ok(())
    }

    /// Waits for the end. Returns the seconds from RUNNING to SUCCEEDED.
    ///
    /// # Errors
    /// The report did not succeed at its first attempt.
    pub(crate) async fn succeeded(mut self, stack: &Stack) -> Result<f64> {
        let begun = std::time::Instant::now();
        while !self.has_ended() {
            ensure!(begun.elapsed() < LIMIT, "the report did not end within {LIMIT:?}: {self:?}");
            tokio::time::sleep(INTERVAL).await;
            self = self.current(stack).await?;
        }
        let error = self.error.as_deref().unwrap_or_default();
        ensure!(self.state == "SUCCEEDED", "the report is {}: {error}", self.state);
        let [Attempt { started_at, ended_at: Some(ended_at) }] = self.attempts.as_slice() else {
            anyhow::bail!("the report needed several attempts: {self:?}");
        };
        Ok((*ended_at - *started_at).as_seconds_f64())
    }

    /// Cancels the report, and waits for its end.
    pub(crate) async fn cancel(mut self, stack: &Stack) -> Result<()> {
        passbook(stack, &["cancel", &self.report_id]).await?;
        until("the report's cancellation", async || {
            self = self.current(stack).await?;
            Ok(self.has_ended())
        })
        .await
    }

    async fn current(&self, stack: &Stack) -> Result<Self> {
        passbook(stack, &["get", &self.report_id]).await
    }

    fn has_ended(&self) -> bool {
        !matches!(self.state.as_str(), "QUEUED" | "RUNNING")
    }

    fn is_reading(&self) -> bool {
        self.state == "RUNNING" && self.progress.as_ref().is_some_and(|progress| progress.done > 0)
    }
}

async fn passbook(stack: &Stack, arguments: &[&str]) -> Result<ReportJob> {
    stack.passbook(&[&["reports"], arguments, &["-o", "json"]].concat()).await
}

/// The days of the history's rows: from 31 days ago to one day ago.
fn period(today: Date) -> (Date, Date) {
    (today - time::Duration::days(32), today)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_once_its_progress_has_rows() {
        let job = |json: &str| serde_json::from_str::<ReportJob>(json).unwrap();
        let queued = job(r#"{"reportId":"r","state":"QUEUED","progress":null,"error":null}"#);
        assert!(!queued.is_reading() && !queued.has_ended());
        let counting = r#"{"reportId":"r","state":"RUNNING","progress":{"step":"s","done":0}}"#;
        assert!(!job(counting).is_reading());
        let reading = r#"{"reportId":"r","state":"RUNNING","progress":{"step":"s","done":9},
            "attempts":[{"startedAt":"2026-03-01T00:00:00Z","endedAt":null}]}"#;
        assert!(job(reading).is_reading());
        assert!(job(r#"{"reportId":"r","state":"CANCELLED"}"#).has_ended());
    }
}
