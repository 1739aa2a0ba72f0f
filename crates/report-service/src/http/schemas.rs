//! The named schemas of strings in the OpenAPI document. Their names come from the code that writes
//! them.

use report_document::{Format, Kind};
use runtime::http::openapi::{names, text};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        RefOr, Schema,
        schema::{AdditionalProperties, ObjectBuilder},
    },
};

use crate::job::{Outcome, State};

/// The kind of a report.
pub(super) struct ReportKind;
/// The state of a report.
pub(super) struct ReportState;
/// The end of an attempt.
pub(super) struct AttemptOutcome;
/// The format of a file.
pub(super) struct ReportFormat;
/// The time or date of a period's end.
pub(super) struct PeriodBound;

/// The signature of a file.
#[derive(ToSchema)]
#[schema(as = FileSignature, rename_all = "camelCase")]
#[allow(dead_code, reason = "the schema of `FileSignature`")]
pub(super) struct FileSignatureView {
    #[schema(examples("Ed25519"))]
    algorithm: String,
    /// SHA-256 of the file, in lowercase hexadecimal digits.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    sha256: String,
    /// The file's length in bytes.
    size: u64,
    /// In base64: the signature of the three lines `passbook artifact v1`, `sha256` and `size`.
    signature: String,
    /// PEM of the SubjectPublicKeyInfo. Compare it with a copy from another source.
    public_key: String,
}

/// A file in JSON, or the signature of a file.
pub(super) struct JsonFile;

impl PartialSchema for ReportKind {
    fn schema() -> RefOr<Schema> {
        let meaning = |kind| match kind {
            Kind::Statement => "one account and one period.",
            Kind::Activity => "all accounts in one period.",
            Kind::Reconciliation => "the findings of `passbook verify`.",
        };
        names("The kind of a report.", Kind::ALL.map(|kind| (kind.as_str(), meaning(kind))))
    }
}

impl PartialSchema for ReportState {
    fn schema() -> RefOr<Schema> {
        let meaning = |state| match state {
            State::Queued => "waits for its turn, or for its next attempt.",
            State::Running => "an attempt is in process.",
            State::Succeeded => "its files can be downloaded. Final.",
            State::Failed => "no attempt succeeded. Final.",
            State::Cancelled => "a client cancelled it. Final.",
        };
        names("The state of a report.", State::ALL.map(|state| (state.as_str(), meaning(state))))
    }
}

impl PartialSchema for AttemptOutcome {
    fn schema() -> RefOr<Schema> {
        let outcomes = [
            ("SUCCEEDED", "the report has its files."),
            (Outcome::Failed(String::new()).as_str(), "for the reason in `error`."),
            (Outcome::Lost.as_str(), "its worker crashed or was cut off."),
            (Outcome::HandedOver.as_str(), "its worker stopped, and another one goes on."),
            (Outcome::Cancelled.as_str(), "a client cancelled the report."),
        ];
        names("How an attempt ended; null while it runs.", outcomes)
    }
}

impl PartialSchema for ReportFormat {
    fn schema() -> RefOr<Schema> {
        let formats = Format::ALL.map(|format| (format.as_str(), format.media_type()));
        names("The format of a file, and its media type.", formats)
    }
}

impl PartialSchema for PeriodBound {
    fn schema() -> RefOr<Schema> {
        let description =
            "A date, for the start of that day in the time zone, or an RFC 3339 time.";
        text(description, "^[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ].+)?$", "2026-11-01")
    }
}

impl PartialSchema for JsonFile {
    fn schema() -> RefOr<Schema> {
        let object = ObjectBuilder::new()
            .description(Some("The report in JSON, or the `FileSignature` of a file."))
            .additional_properties(Some(AdditionalProperties::FreeForm(true)));
        Schema::Object(object.build()).into()
    }
}

impl ToSchema for JsonFile {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((FileSignatureView::name().into_owned(), FileSignatureView::schema()));
    }
}

impl ToSchema for ReportKind {}
impl ToSchema for ReportState {}
impl ToSchema for AttemptOutcome {}
impl ToSchema for ReportFormat {}
impl ToSchema for PeriodBound {}
