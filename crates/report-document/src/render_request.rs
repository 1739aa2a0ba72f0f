//! The protocol between the report-service and a renderer in another process. The
//! request is `POST` with a [`RenderRequest`]. The answer is the file with its media
//! type, or a [`RenderedReference`] as JSON.
//!
//! The same request gives the same file, so it can be repeated after a lost answer.

use contract::ReportId;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{Format, Kind};

/// Asks for one file of one report. It contains a small document, or refers to a
/// large one in the object storage.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RenderRequest {
    /// The report.
    pub report_id: ReportId,
    /// The attempt: 1, 2, 3 …
    pub attempt: u32,
    /// Of the claim: random text of letters and digits. The name of a stored file begins with it and
    /// a hyphen: after a failover, two attempts can have one number. An earlier release of the
    /// report-service sends none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<String>,
    /// The format of the file.
    pub format: Format,
    /// The kind of the document.
    pub kind: Kind,
    /// The version of the layout.
    pub template: u32,
    /// The document as JSON. A statement has its `entries` inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<Box<RawValue>>,
    /// The document's path in the storage, below [`attempt_folder`]. The file's first
    /// line is the document, each further line is an entry of the statement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document_href: Option<String>,
    /// The SHA-256 of the file at `document_href`, in lowercase hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document_sha256: Option<String>,
    /// The bytes of the file at `document_href`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document_size: Option<u64>,
}

/// A document in the object storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DocumentReference<'a> {
    /// The path in the storage.
    pub href: &'a str,
    /// The SHA-256 in lowercase hex.
    pub sha256: &'a str,
    /// The number of bytes.
    pub size: u64,
}

/// Where the document of a request is.
#[derive(Debug, Clone, Copy)]
pub enum DocumentSource<'a> {
    /// In the request.
    Inline(&'a RawValue),
    /// In the object storage.
    Reference(DocumentReference<'a>),
}

/// A request has no document, or more than one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a request has either document, or documentHref with documentSha256 and documentSize, \
     below the folder of its report and attempt"
)]
pub struct NoDocument;

impl RenderRequest {
    /// Where the document is.
    ///
    /// # Errors
    /// `NoDocument`: also for a path outside the attempt's folder.
    pub fn source(&self) -> Result<DocumentSource<'_>, NoDocument> {
        match (&self.document, &self.document_href, &self.document_sha256, self.document_size) {
            (Some(document), None, None, None) => Ok(DocumentSource::Inline(document)),
            (None, Some(href), Some(sha256), Some(size))
                if is_below(href, &attempt_folder(self.report_id, self.attempt)) =>
            {
                Ok(DocumentSource::Reference(DocumentReference { href, sha256, size }))
            }
            _ => Err(NoDocument),
        }
    }
}

/// A rendered file in the object storage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RenderedReference {
    /// The file's path in the storage.
    pub href: String,
    /// The SHA-256 in lowercase hex.
    pub sha256: String,
    /// The number of bytes.
    pub size: u64,
}

impl RenderedReference {
    /// Whether the file is in the folder of this attempt. A client checks it before
    /// it reads the file.
    #[must_use]
    pub fn belongs_to(&self, report_id: ReportId, attempt: u32) -> bool {
        is_below(&self.href, &attempt_folder(report_id, attempt))
    }
}

/// The folder in the storage with all files of one attempt.
#[must_use]
pub fn attempt_folder(report_id: ReportId, attempt: u32) -> String {
    format!("{report_id}/{attempt}")
}

/// Whether the path is a file directly in the folder.
fn is_below(href: &str, folder: &str) -> bool {
    let name = href.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/'));
    name.is_some_and(|name| !matches!(name, "" | "." | "..") && !name.contains(['/', '\\']))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const REPORT: &str = "0199d4a2-7c1e-7b7a-9a55-3f1d8f6f2c11";

    fn request(rest: serde_json::Value) -> RenderRequest {
        let mut fields = json!({
            "reportId": REPORT, "attempt": 2, "format": "csv", "kind": "statement", "template": 1,
        });
        for (name, value) in rest.as_object().unwrap() {
            fields[name] = value.clone();
        }
        serde_json::from_str(&fields.to_string()).unwrap()
    }

    #[test]
    fn a_request_has_exactly_one_document() {
        let href = format!("{REPORT}/2/document.ndjson");
        let reference = json!({"documentHref": href, "documentSha256": "00", "documentSize": 7});
        assert!(matches!(
            request(json!({"document": {"a": 1}})).source(),
            Ok(DocumentSource::Inline(document)) if document.get() == r#"{"a":1}"#
        ));
        assert!(matches!(
            request(reference.clone()).source(),
            Ok(DocumentSource::Reference(DocumentReference { size: 7, .. }))
        ));
        let mut both = reference;
        both["document"] = json!({});
        for other in [both, json!({}), json!({"documentHref": href})] {
            assert_eq!(request(other).source().unwrap_err(), NoDocument);
        }
    }

    #[test]
    fn a_path_outside_the_attempts_folder_is_rejected() {
        let report_id: ReportId = REPORT.parse().unwrap();
        let at = |href: String| RenderedReference { href, sha256: String::new(), size: 0 };
        assert!(at(format!("{REPORT}/2/statement.csv")).belongs_to(report_id, 2));
        for href in ["1/statement.csv", "2/", "2/..", "2/../1/a", "2/a/b", "2", "22/a"] {
            assert!(!at(format!("{REPORT}/{href}")).belongs_to(report_id, 2), "{href}");
        }
        assert!(!at("/etc/passwd".to_owned()).belongs_to(report_id, 2));
    }
}
