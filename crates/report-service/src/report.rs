//! A report, as it was asked for and as it is.

use contract::{AccountId, ReportId};
use report_document::{Format, Kind, Period};
use runtime::http::idempotency_key::IdempotencyKey;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::job::State;

/// What a report is about. Also the JSON form in the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", rename_all_fields = "camelCase", tag = "kind")]
pub enum Parameters {
    /// One account and one period.
    Statement {
        /// The account.
        account_id: AccountId,
        /// The period.
        #[serde(flatten)]
        period: Period,
    },
    /// All accounts in one period.
    Activity {
        /// The period.
        #[serde(flatten)]
        period: Period,
        /// Whether the report ends in prose.
        analysis: bool,
    },
    /// The findings of `passbook verify`.
    Reconciliation,
}

impl Parameters {
    /// The kind of the report.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Statement { .. } => Kind::Statement,
            Self::Activity { .. } => Kind::Activity,
            Self::Reconciliation => Kind::Reconciliation,
        }
    }

    /// The name of its files, without the extension.
    #[must_use]
    pub fn file_stem(&self) -> String {
        match self {
            Self::Statement { account_id, period } => {
                format!("statement-{account_id}-{}", dates(period))
            }
            Self::Activity { period, .. } => format!("activity-{}", dates(period)),
            Self::Reconciliation => "reconciliation".to_owned(),
        }
    }
}

/// A valid request for a report, not stored yet.
#[derive(Debug, Clone)]
pub struct NewReport {
    /// The new report.
    pub id: ReportId,
    /// The caller.
    pub requested_by: String,
    /// The owner of a statement's account.
    pub account_owner: Option<String>,
    /// The caller's key.
    pub key: IdempotencyKey,
    /// What it is about.
    pub parameters: Parameters,
    /// Its formats, without repetition.
    pub formats: Vec<Format>,
    /// The ledger's position, if the client asked for one open report of its kind,
    /// parameters and position.
    pub unique_at: Option<i64>,
    /// The report that this one repeats.
    pub retry_of: Option<ReportId>,
    /// Maximum open reports of the caller; `None` without a limit.
    pub most_open: Option<u32>,
}

impl NewReport {
    /// Two requests with one key are the same request if their hashes are equal.
    #[must_use]
    pub fn request_hash(&self) -> [u8; 32] {
        let unique = self.unique_at.is_some();
        hash(&(&self.parameters, &self.formats, unique, self.retry_of))
    }

    /// Equal for the open reports of which there must be only one.
    #[must_use]
    pub fn unique_hash(&self) -> Option<[u8; 32]> {
        let position = self.unique_at?;
        Some(hash(&(&self.parameters, &self.formats, &self.account_owner, position)))
    }
}

/// Both ends of a period for a file name, as dates in its time zone. An end within a day
/// has its time.
fn dates(period: &Period) -> String {
    let text = |end: OffsetDateTime| match end.time().as_hms() {
        (0, 0, 0) => end.date().to_string(),
        (hour, minute, second) => {
            format!("{}T{hour:02}{minute:02}{second:02}", end.date())
        }
    };
    format!("{}_{}", text(period.from), text(period.to))
}

fn hash(value: &impl Serialize) -> [u8; 32] {
    // Serializing these types can't fail.
    Sha256::digest(serde_json::to_vec(value).unwrap_or_default()).into()
}

/// A stored report.
#[derive(Debug, Clone)]
pub struct Report {
    /// The report.
    pub id: ReportId,
    /// What it is about.
    pub parameters: Parameters,
    /// Its formats.
    pub formats: Vec<Format>,
    /// The caller who asked for it.
    pub requested_by: String,
    /// The owner of a statement's account.
    pub account_owner: Option<String>,
    /// The state.
    pub state: State,
    /// The number of the latest attempt.
    pub attempt: i32,
    /// Whether a client asked to cancel it.
    pub cancel_requested: bool,
    /// The step of the latest attempt.
    pub step: Option<String>,
    /// Rows done in this step.
    pub done: Option<i64>,
    /// Rows of this step, if known.
    pub total: Option<i64>,
    /// The cause of the latest failure.
    pub error: Option<String>,
    /// The cause, if it is in the request and its caller may read it.
    pub public_error: Option<String>,
    /// The report that this one repeats.
    pub retry_of: Option<ReportId>,
    /// When it was asked for.
    pub created_at: OffsetDateTime,
    /// When it changed last.
    pub updated_at: OffsetDateTime,
}

/// An attempt at a report.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// 1, 2, 3 …
    pub number: i32,
    /// The worker.
    pub worker: String,
    /// When it began.
    pub started_at: OffsetDateTime,
    /// When it ended.
    pub ended_at: Option<OffsetDateTime>,
    /// How it ended.
    pub outcome: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
}

/// A stored file of a SUCCEEDED report.
#[derive(Debug, Clone)]
pub struct Artifact {
    /// The format.
    pub format: Format,
    /// Its place in the storage.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
    /// Ed25519 signature of the digest.
    pub signature: Option<Vec<u8>>,
    /// Its name for a person.
    pub file_name: String,
    /// When it is deleted.
    pub expires_at: OffsetDateTime,
    /// Whether it was deleted.
    pub is_deleted: bool,
}

/// One claim of an attempt. Every write of the attempt requires it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptKey {
    /// The report.
    pub report: ReportId,
    /// The number of the attempt.
    pub number: i32,
    /// Random: an older copy of the database gives the number again, but no fence twice.
    pub fence: i64,
}

impl AttemptKey {
    /// The fence in the names of files.
    #[must_use]
    pub fn fence_text(&self) -> String {
        format!("{:014x}", self.fence)
    }
}

/// An attempt that this process has to make.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// The report.
    pub report: Report,
    /// The fence of the claim.
    pub fence: i64,
    /// Where an earlier attempt stopped.
    pub checkpoint: Option<serde_json::Value>,
    /// The trace context of the request.
    pub traceparent: Option<String>,
}

impl Claimed {
    /// The claim.
    #[must_use]
    pub const fn key(&self) -> AttemptKey {
        AttemptKey { report: self.report.id, number: self.report.attempt, fence: self.fence }
    }
}

/// The files of an attempt, for its last commit.
#[derive(Debug, Clone)]
pub struct NewArtifact {
    /// The format.
    pub format: Format,
    /// Its place in the storage.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
    /// Ed25519 signature of the digest.
    pub signature: Option<Vec<u8>>,
    /// Its name for a person.
    pub file_name: String,
}
