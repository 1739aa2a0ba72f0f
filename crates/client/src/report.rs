//! Reports and their files.

use std::{fmt, time::Duration};

use bytes::Bytes;
use contract::{AccountId, ReportId};
use http::Method;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, serde::rfc3339};

use crate::{Answer, Cause, Client, Error, IdempotencyKey, Request, pieces::Events};

/// The report to make. A field that is absent has the service's default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportRequest {
    /// `statement`, `activity` or `reconciliation`.
    pub kind: String,
    /// The account of a statement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_id: Option<AccountId>,
    /// The start of the period: a date or an RFC 3339 time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The end of the period, which is not part of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The IANA name of the time zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// The files to make, such as `pdf`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub formats: Vec<String>,
    /// Whether an activity report has an analysis.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub analysis: Option<bool>,
    /// Whether the answer may be an open report that is the same, over the same ledger.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unique: bool,
}

/// The state of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ReportState {
    /// Waits for its turn, or for its next attempt.
    Queued,
    /// An attempt is in process.
    Running,
    /// Its files can be downloaded. Final.
    Succeeded,
    /// No attempt succeeded. Final.
    Failed,
    /// A client cancelled it. Final.
    Cancelled,
}

impl ReportState {
    /// Every state.
    pub const ALL: [Self; 5] =
        [Self::Queued, Self::Running, Self::Succeeded, Self::Failed, Self::Cancelled];

    /// Its name in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "QUEUED",
            Self::Running => "RUNNING",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
        }
    }
}

/// A change of a report.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ReportEvent {
    /// Its state.
    pub state: ReportState,
    /// The progress of the latest attempt.
    pub progress: Option<ReportProgress>,
}

/// The progress of an attempt. Displayed as `read entries, 120 of 5000`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ReportProgress {
    /// What the attempt does.
    pub step: String,
    /// How much of it is done.
    pub done: u64,
    /// How much there is, if it is known.
    pub total: Option<u64>,
}

impl fmt::Display for ReportProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, done, total } = self;
        match total {
            Some(total) => write!(f, "{step}, {done} of {total}"),
            None if *done == 0 => f.write_str(step),
            None => write!(f, "{step}, {done}"),
        }
    }
}

/// A report.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Its id.
    pub report_id: ReportId,
    /// Its kind.
    pub kind: String,
    /// Its state.
    pub state: ReportState,
    /// The number of the present or last attempt; 0 before the first.
    pub attempt: i64,
    /// Why it FAILED, or its last attempt.
    pub error: Option<String>,
    /// Its files, once it is SUCCEEDED.
    pub artifacts: Vec<Artifact>,
    /// The report that this one repeats.
    pub retry_of: Option<ReportId>,
    /// When it was asked for.
    #[serde(with = "rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it last changed.
    #[serde(with = "rfc3339")]
    pub updated_at: OffsetDateTime,
}

/// A file of a report.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// Such as `pdf`.
    pub format: String,
    /// Bytes.
    pub size: u64,
    /// In lowercase hexadecimal digits.
    pub sha256: String,
    /// The path of the file.
    pub href: String,
    /// The file is deleted after this time.
    #[serde(with = "rfc3339")]
    pub expires_at: OffsetDateTime,
}

/// The changes of a report, over one connection.
#[derive(Debug)]
pub struct ReportEvents(Events);

impl ReportEvents {
    /// The next change, which may be the present state; `None` when the report has ended, and when
    /// the server ends the stream.
    ///
    /// # Errors
    /// The connection broke, or the change has an unknown form.
    pub async fn next(&mut self) -> Result<Option<ReportEvent>, Error> {
        let Some(message) = self.0.next().await? else { return Ok(None) };
        let event = serde_json::from_str(&message.data);
        event.map(Some).map_err(|error| Error::new(Cause::UnexpectedAnswer(error.to_string())))
    }
}

impl Client {
    /// Asks for a report, with a wait for its end. The same request with the same key gives the
    /// same report.
    ///
    /// # Errors
    /// Of the last try.
    pub async fn request_report(
        &self,
        report: &ReportRequest,
        key: &IdempotencyKey,
        wait: Option<Duration>,
    ) -> Result<Report, Error> {
        self.call(&Request::post("/v1/reports", report)?.key(key).wait(wait)).await
    }

    /// The report with this id, with a wait for its end.
    ///
    /// # Errors
    /// Of the last try.
    pub async fn report(&self, id: ReportId, wait: Option<Duration>) -> Result<Report, Error> {
        self.call(&Request::get(format!("/v1/reports/{id}")).wait(wait)).await
    }

    /// Follows a report until it has ended. A proxy may hold the changes back: look at the report
    /// from time to time as well.
    ///
    /// # Errors
    /// The request is refused, or there is no answer.
    pub async fn follow_report(&self, id: ReportId) -> Result<ReportEvents, Error> {
        let request = Request::get(format!("/v1/reports/{id}/events"));
        Events::open(self, &request).await.map(ReportEvents)
    }

    /// Cancels a report that has not ended.
    ///
    /// # Errors
    /// Of the last try: `report-state-conflict` if it has ended.
    pub async fn cancel_report(&self, id: ReportId) -> Result<Report, Error> {
        self.call(&Request::new(Method::POST, format!("/v1/reports/{id}/cancel"))).await
    }

    /// Makes the report once more, under this key.
    ///
    /// # Errors
    /// Of the last try: `report-state-conflict` if it has not ended.
    pub async fn retry_report(&self, id: ReportId, key: &IdempotencyKey) -> Result<Report, Error> {
        self.call(&Request::new(Method::POST, format!("/v1/reports/{id}/retry")).key(key)).await
    }

    /// The content of a file. Its hash is verified. It must be shorter than
    /// [`crate::Builder::longest_answer`]; [`Client::stream`] reads others piece by piece.
    ///
    /// # Errors
    /// Of the last try.
    pub async fn artifact(&self, artifact: &Artifact) -> Result<Bytes, Error> {
        let request = Request::get(artifact.href.clone());
        let read = |answer: &Answer| {
            let hash = digest(&SHA256, &answer.body);
            let hash = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            if hash == artifact.sha256 {
                Ok(answer.body.clone())
            } else {
                Err(Error::new(Cause::BrokenAnswer("the file has another hash".to_owned())))
            }
        };
        Ok(self.try_again(&request, read).await?.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_has_a_state_and_a_progress_that_can_be_shown() {
        let read = |json: &str| serde_json::from_str::<ReportEvent>(json).unwrap();
        for (progress, shown) in [
            (r#"{"step":"read","done":2,"total":5}"#, "read, 2 of 5"),
            (r#"{"step":"read","done":0,"total":null}"#, "read"),
            (r#"{"step":"read","done":7}"#, "read, 7"),
        ] {
            let event = read(&format!(r#"{{"state":"RUNNING","progress":{progress}}}"#));
            assert_eq!(event.state, ReportState::Running);
            assert_eq!(event.progress.unwrap().to_string(), shown);
        }
        for state in ReportState::ALL {
            let name = state.as_str();
            assert_eq!(read(&format!(r#"{{"state":"{name}","progress":null}}"#)).state, state);
        }
    }
}
