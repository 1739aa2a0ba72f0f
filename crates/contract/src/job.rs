//! The message of a report. It only wakes a worker: the report itself, with its
//! state, is a row of the report-service's database.

use serde::{Deserialize, Serialize};

use crate::ReportId;

/// Wakes a worker. The worker takes the oldest report that is due, which can be
/// another one than this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// The report.
    pub report_id: ReportId,
}

impl Job {
    /// Parses the body of a message.
    ///
    /// # Errors
    /// If it is not JSON with a `reportId`.
    pub fn parse(body: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(body)
    }
}
