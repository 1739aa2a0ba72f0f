//! `GET /v1/reports/{id}/artifacts/{format}`: the files of a report, and their
//! signatures.
//!
//! A whole file is compared with its SHA-256 while it is sent. The last piece is held
//! back until the digest is known: a client never receives a complete damaged file.

use std::ops::Range;

use ::artifacts::{ArtifactPath, StorageError};
use axum::{
    Json,
    body::Body,
    extract::{Path, State, rejection::PathRejection},
    http::{
        HeaderMap, HeaderValue, Method, StatusCode,
        header::{
            ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE,
            CONTENT_TYPE, ETAG, IF_RANGE, RANGE, X_CONTENT_TYPE_OPTIONS,
        },
    },
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use contract::{
    ReportId, Scope,
    file_signature::{ALGORITHM, FileSignature},
};
use futures::{Stream, StreamExt, stream};
use report_document::Format;
use runtime::http::{
    bearer::Caller,
    database::read,
    entity_tag,
    openapi::IfNoneMatchHeader,
    problem::{INTERNAL, MALFORMED_ID, Problem},
    timestamp::Timestamp,
};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio_util::bytes::Bytes;
use utoipa::ToSchema;

use super::{
    Api, ApiState,
    problems::{
        ARTIFACT_DAMAGED, ARTIFACT_EXPIRED, ARTIFACT_NOT_FOUND, RANGE_NOT_SATISFIABLE, unavailable,
    },
    reports::visible,
    schemas,
};
use crate::{report::Artifact, signer::hex, store};

/// The end of the path of a signature.
const SIGNATURE: &str = ".sig";

/// The public key behind the signatures.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SigningKey)]
struct SigningKeyView {
    #[schema(value_type = String, examples("Ed25519"))]
    algorithm: &'static str,
    /// PEM of the SubjectPublicKeyInfo.
    public_key: String,
}

/// Get the public key of the signatures
///
/// Anyone may have it.
#[utoipa::path(get, path = "/v1/reports/signing-key", tag = "Reports",
    operation_id = "getSigningKey",
    security(()),
    responses(
        (status = OK, body = SigningKeyView, description = "The key."),
        (status = NOT_FOUND, description = "artifact-not-found"),
    ))]
pub(super) async fn signing_key(State(api): State<ApiState>) -> Result<Response, Problem> {
    let signer = api.signer.as_ref().ok_or_else(|| {
        ARTIFACT_NOT_FOUND.because("This system does not sign its reports: it has no signing key.")
    })?;
    let key = SigningKeyView { algorithm: ALGORITHM, public_key: signer.public_key_pem() };
    Ok(Json(key).into_response())
}

/// Download a file, or its signature
///
/// A damaged file is never sent completely: the connection ends before its last bytes.
#[utoipa::path(get, path = "/v1/reports/{report}/artifacts/{file}", tag = "Reports",
    operation_id = "getReportFile",
    security(("token" = ["reports:read"])),
    params(
        ("report" = Uuid, Path, description = "The id of the report."),
        ("file" = String, Path, example = "pdf",
            description = "A format of the report; with `.sig` behind it, the signature."),
        ("Range" = Option<String>, Header, example = "bytes=0-1023",
            description = "One range. Several, or a malformed one, mean the whole file."),
        ("If-Range" = Option<String>, Header,
            description = "The `ETag` of the range's file. For another file, it is sent whole."),
        IfNoneMatchHeader,
    ),
    responses(
        (status = OK, description = "The whole file, or the signature.",
            content(
                ("application/pdf"),
                ("text/csv"),
                ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
                ("application/xml"),
                ("text/html"),
                (schemas::JsonFile = "application/json"),
            ),
            headers(
                ("ETag" = Option<String>, description = "The SHA-256 of the file."),
                ("Content-Disposition" = String, description = "The name of the file."),
                ("Repr-Digest" = Option<String>, description = "The SHA-256 (RFC 9530)."),
                ("Digest" = Option<String>, description = "The SHA-256 (RFC 3230)."),
                ("Accept-Ranges" = Option<String>, description = "`bytes`"),
            )),
        (status = PARTIAL_CONTENT, description = "The range.", content(("*/*")),
            headers(("Content-Range" = String, description = "The range of the whole length."))),
        (status = NOT_MODIFIED, description = "The client has the file."),
        (status = NOT_FOUND, description = "report-not-found artifact-not-found"),
        (status = GONE, description = "artifact-expired"),
        (status = RANGE_NOT_SATISFIABLE, description = "range-not-satisfiable"),
        (status = INTERNAL_SERVER_ERROR, description = "artifact-damaged"),
    ))]
pub(super) async fn download(
    State(api): State<ApiState>,
    caller: Caller,
    path: Result<Path<(String, String)>, PathRejection>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Path((id, file)) =
        path.map_err(|error| MALFORMED_ID.because(format!("{}.", error.body_text())))?;
    let id: ReportId =
        id.parse().map_err(|error| MALFORMED_ID.because(format!("An id {error}.")))?;
    let (name, wants_signature) = match file.strip_suffix(SIGNATURE) {
        Some(name) => (name, true),
        None => (file.as_str(), false),
    };
    let report = visible(&api, &caller, Scope::ReportsRead, id).await?;
    let missing = || {
        let detail = if report.state.is_end() {
            format!("The report is {} and has no file {name}.", report.state)
        } else {
            format!("The report is {}: its files are not ready.", report.state)
        };
        ARTIFACT_NOT_FOUND.because(detail)
    };
    let format = Format::parse(name).ok_or_else(missing)?;
    let artifact = read(store::artifact(&api.pool, id, format)).await?.ok_or_else(missing)?;
    if wants_signature {
        return signature(&api, &artifact);
    }
    if artifact.is_deleted {
        let expired = Timestamp(artifact.expires_at);
        let detail = format!("The file was kept until {expired}. Ask for the report again.");
        return Err(ARTIFACT_EXPIRED.because(detail));
    }
    send(&api, &artifact, &method, &headers).await
}

fn signature(api: &Api, artifact: &Artifact) -> Result<Response, Problem> {
    let (Some(signature), Some(signer)) = (&artifact.signature, &api.signer) else {
        return Err(ARTIFACT_NOT_FOUND.because("The file has no signature."));
    };
    let json = FileSignature {
        algorithm: ALGORITHM.to_owned(),
        sha256: hex(&artifact.sha256),
        size: artifact.size,
        signature: BASE64_STANDARD.encode(signature),
        public_key: signer.public_key_pem(),
    };
    let name = format!("attachment; filename=\"{}{SIGNATURE}\"", artifact.file_name);
    Ok(([(CONTENT_DISPOSITION, name)], Json(json)).into_response())
}

async fn send(
    api: &Api,
    artifact: &Artifact,
    method: &Method,
    request: &HeaderMap,
) -> Result<Response, Problem> {
    let etag = format!("\"{}\"", hex(&artifact.sha256));
    let headers = file_headers(artifact, &etag)?;
    if entity_tag::is_known(request, &etag) {
        return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
    }
    let size = artifact.size;
    let path: ArtifactPath = artifact.path.parse().map_err(|error| {
        tracing::error!(%error, "a stored path is malformed");
        INTERNAL.because("This is a bug; it was logged.")
    })?;
    let stored = api.storage.head(&path).await;
    if stored.map_err(|error| unavailable("The storage of files", &error))? != Some(size) {
        tracing::error!(path = %path, "a stored file is missing or has another size");
        return Err(ARTIFACT_DAMAGED.because("It was logged. Ask for the report again."));
    }
    // A range is only for a client that already has a part of this very file.
    let same = request.get(IF_RANGE).is_none_or(|tag| *tag == *etag);
    let range = request.get(RANGE).filter(|_| same).and_then(|value| value.to_str().ok());
    let range = match range.map(|text| parse_range(text, size)) {
        None | Some(Requested::Whole) => None,
        Some(Requested::Part(range)) => Some(range),
        Some(Requested::Outside) => {
            let problem = RANGE_NOT_SATISFIABLE.because(format!("The file has {size} bytes."));
            return Ok(([(CONTENT_RANGE, format!("bytes */{size}"))], problem).into_response());
        }
    };
    let (status, length) = match &range {
        None => (StatusCode::OK, size),
        Some(range) => (StatusCode::PARTIAL_CONTENT, range.end - range.start),
    };
    let mut response = (status, headers).into_response();
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    if let Some(range) = &range {
        let text = format!("bytes {}-{}/{size}", range.start, range.end - 1);
        if let Ok(value) = HeaderValue::try_from(text) {
            response.headers_mut().insert(CONTENT_RANGE, value);
        }
    }
    if method != Method::HEAD {
        let is_whole = range.is_none();
        let bytes = api.storage.read(&path, range).await;
        let bytes = bytes.map_err(|error| unavailable("The storage of files", &error))?;
        *response.body_mut() = if is_whole {
            Body::from_stream(checked(bytes, artifact.sha256))
        } else {
            Body::from_stream(bytes)
        };
    }
    Ok(response)
}

fn file_headers(artifact: &Artifact, etag: &str) -> Result<HeaderMap, Problem> {
    let digest = BASE64_STANDARD.encode(artifact.sha256);
    let mut headers = HeaderMap::new();
    let mut set = |name: axum::http::HeaderName, value: String| {
        let value = HeaderValue::try_from(value)
            .map_err(|_| INTERNAL.because("A header of the file is malformed."))?;
        headers.insert(name, value);
        Ok::<_, Problem>(())
    };
    set(CONTENT_TYPE, artifact.format.media_type().to_owned())?;
    set(CONTENT_DISPOSITION, format!("attachment; filename=\"{}\"", artifact.file_name))?;
    set(ETAG, etag.to_owned())?;
    set(axum::http::HeaderName::from_static("digest"), format!("sha-256={digest}"))?;
    set(axum::http::HeaderName::from_static("repr-digest"), format!("sha-256=:{digest}:"))?;
    set(ACCEPT_RANGES, "bytes".to_owned())?;
    // A statement is not for caches that several people share.
    set(CACHE_CONTROL, "private, no-cache".to_owned())?;
    set(X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned())?;
    Ok(headers)
}

/// The range of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Requested {
    /// The whole file.
    Whole,
    /// These bytes, which the file has.
    Part(Range<u64>),
    /// None of the file's bytes.
    Outside,
}

/// Parses a `Range` with one part. Several parts, and anything malformed, mean the whole
/// file (RFC 9110, section 14.2).
#[must_use]
pub fn parse_range(text: &str, size: u64) -> Requested {
    let Some((first, last)) =
        text.strip_prefix("bytes=").and_then(|range| range.trim().split_once('-'))
    else {
        return Requested::Whole;
    };
    // A number with a sign is a number for `parse`, but not in HTTP.
    if !first.bytes().chain(last.bytes()).all(|byte| byte.is_ascii_digit()) {
        return Requested::Whole;
    }
    let range = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(size),
        (Ok(first), Err(_)) if last.is_empty() => first..size,
        // The last bytes.
        (Err(_), Ok(0)) if first.is_empty() => return Requested::Outside,
        (Err(_), Ok(last)) if first.is_empty() => size.saturating_sub(last)..size,
        _ => return Requested::Whole,
    };
    if range.start >= size { Requested::Outside } else { Requested::Part(range) }
}

/// The bytes of a file. They end in an error instead of the last piece if their digest
/// is another one.
fn checked(
    bytes: impl Stream<Item = Result<Bytes, StorageError>> + Send + 'static,
    sha256: [u8; 32],
) -> impl Stream<Item = Result<Bytes, StorageError>> + Send {
    let state = (Box::pin(bytes), Sha256::new(), None::<Bytes>, false);
    stream::unfold(state, move |(mut bytes, mut digest, mut held, ended)| async move {
        if ended {
            return None;
        }
        loop {
            match bytes.next().await {
                Some(Ok(piece)) => {
                    digest.update(&piece);
                    if let Some(before) = held.replace(piece) {
                        return Some((Ok(before), (bytes, digest, held, false)));
                    }
                }
                Some(Err(error)) => return Some((Err(error), (bytes, digest, None, true))),
                None => {
                    let found: [u8; 32] = digest.finalize_reset().into();
                    if found != sha256 {
                        tracing::error!("a stored file is damaged: its digest is another one");
                        let error = StorageError::Other("the stored file is damaged".to_owned());
                        return Some((Err(error), (bytes, digest, None, true)));
                    }
                    return held.take().map(|last| (Ok(last), (bytes, digest, None, true)));
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_as_the_standard_says() {
        let part = |range| Requested::Part(range);
        for (text, expected) in [
            ("bytes=0-0", part(0..1)),
            ("bytes=2-4", part(2..5)),
            ("bytes=2-", part(2..10)),
            ("bytes=-3", part(7..10)),
            ("bytes=-99", part(0..10)),
            ("bytes=5-99", part(5..10)),
            ("bytes=10-", Requested::Outside),
            ("bytes=-0", Requested::Outside),
            ("bytes=4-2", Requested::Whole),
            ("bytes=0-1,3-4", Requested::Whole),
            ("lines=1-2", Requested::Whole),
            ("bytes=a-b", Requested::Whole),
            ("bytes=-", Requested::Whole),
            ("bytes=+0-+1", Requested::Whole),
            ("bytes=--1", Requested::Whole),
            ("bytes=0-18446744073709551615", part(0..10)),
        ] {
            assert_eq!(parse_range(text, 10), expected, "{text}");
        }
    }

    #[tokio::test]
    async fn a_damaged_file_is_never_sent_completely() {
        let pieces = || stream::iter([Ok(Bytes::from_static(b"ab")), Ok(Bytes::from_static(b"c"))]);
        let right: [u8; 32] = Sha256::digest(b"abc").into();
        let sent: Vec<_> = checked(pieces(), right).collect().await;
        assert!(sent.iter().all(Result::is_ok) && sent.len() == 2);
        let sent: Vec<_> = checked(pieces(), [0; 32]).collect().await;
        assert!(sent[0].is_ok() && sent[1].is_err() && sent.len() == 2);
    }
}
