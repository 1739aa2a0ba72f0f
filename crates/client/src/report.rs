//! Reports and their files.

use std::time::Duration;

use bytes::Bytes;
use contract::{AccountId, ReportId};
use http::Method;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, serde::rfc3339};

use crate::{Answer, Cause, Client, Error, IdempotencyKey, Request};

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
    /// [`crate::Builder::longest_answer`]; [`Client::open`] reads others piece by piece.
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
