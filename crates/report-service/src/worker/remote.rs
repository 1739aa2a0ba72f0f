//! The external renderer: an HTTP function, such as a serverless one.
//!
//! A small document is a part of the request. A large one is stored first, because such
//! functions limit their requests. The answer is the file, or its place in the storage.
//! An answer after the time limit reaches nobody: a file that it stored has no row, and
//! the clean-up deletes it.
//!
//! The type of the function's problem decides whether an error is permanent, not the status. An
//! earlier renderer answers 422 also if its release or its storage is another one, as in the
//! middle of an upgrade.

use std::{io::Write, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, anyhow, ensure};
use artifacts::{ArtifactPath, ArtifactStore, Stored};
use axum::http::{Response, header::CONTENT_TYPE};
use http_body_util::BodyExt;
use report_document::{Format, OwnedDocument, RenderRequest, RenderedReference, TEMPLATE};
use report_renderer::function::NOT_RENDERABLE;
use runtime::{
    http::client::{HttpClient, Incoming},
    setting::Secret,
};
use serde_json::value::RawValue;
use tokio::io::AsyncWriteExt;

use super::{
    attempt::AttemptError,
    control::Control,
    render::{Job, Rendered, rows},
};
use crate::signer::hex;

/// Maximum size of a document inside a request, in bytes. Functions take 6 MB.
const MAX_INLINE: usize = 4 * 1024 * 1024;
/// Entries of a statement that surely fit.
const MAX_INLINE_ENTRIES: u64 = 10_000;
/// Maximum size of an answer that may be a reference, in bytes.
const MAX_REFERENCE: usize = 4096;
/// The name of a large document, behind the fence in the storage.
const DOCUMENT: &str = "document.ndjson";
/// Maximum characters of the function's error in ours.
const MAX_ERROR: usize = 500;

/// The external renderer.
#[derive(Debug)]
pub struct RemoteRenderer {
    /// The function.
    pub http: HttpClient,
    /// Its bearer token.
    pub token: Option<Secret>,
    /// Time limit for one request.
    pub timeout: Duration,
}

impl RemoteRenderer {
    pub(super) async fn render(
        &self,
        job: Job<'_>,
        storage: &ArtifactStore,
        control: &Control,
    ) -> Result<Rendered, AttemptError> {
        let request = self.request(job, storage).await?;
        let sent = tokio::time::timeout(self.timeout, self.send(job, storage, control, request));
        let rendered = match control.end().run_until_cancelled(sent).await {
            Some(Ok(rendered)) => rendered,
            Some(Err(_)) => Err(anyhow!("the renderer took longer than {:?}", self.timeout).into()),
            None => Err(AttemptError::Ended),
        };
        let outcome = if rendered.is_ok() { "ok" } else { "error" };
        metrics::counter!("passbook_report_renderer_requests_total", "outcome" => outcome)
            .increment(1);
        rendered
    }

    /// The request, with the document inside or in the storage.
    async fn request(
        &self,
        job: Job<'_>,
        storage: &ArtifactStore,
    ) -> anyhow::Result<RenderRequest> {
        let mut request = RenderRequest {
            report_id: job.report.id,
            attempt: u32::try_from(job.report.attempt).context("the number of the attempt")?,
            fence: Some(job.fence.to_owned()),
            format: job.format,
            kind: job.report.parameters.kind(),
            template: TEMPLATE,
            document: None,
            document_href: None,
            document_sha256: None,
            document_size: None,
        };
        request.document = inline(Arc::clone(job.document)).await?;
        if request.document.is_none() {
            let (path, stored) = store_document(job, storage).await?;
            request.document_href = Some(path.to_string());
            request.document_sha256 = Some(hex(&stored.sha256));
            request.document_size = Some(stored.size);
        }
        Ok(request)
    }

    async fn send(
        &self,
        job: Job<'_>,
        storage: &ArtifactStore,
        control: &Control,
        request: RenderRequest,
    ) -> Result<Rendered, AttemptError> {
        let body = serde_json::to_vec(&request).context("writing the request")?;
        let headers = [("traceparent", control.trace().traceparent())];
        let answer = self.http.post_json(self.token.as_ref(), &headers, body).await;
        let answer = answer.context("the renderer")?;
        let status = answer.status();
        if !status.is_success() {
            let error = FunctionError::read(answer).await;
            if error.is_permanent() {
                return Err(AttemptError::Impossible(error.text));
            }
            return Err(anyhow!("the renderer answered {status}: {}", error.text).into());
        }
        let is_json = answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is_json = is_json.is_some_and(|essence| essence.starts_with("application/json"));
        let path = job.scratch.join(format!("rendered.{}", job.format.extension()));
        let size = save(answer, &path).await?;
        if is_json && let Some(reference) = reference(&path, size, job.format).await? {
            return Ok(stored(storage, &request, reference).await?);
        }
        Ok(Rendered::File(path))
    }
}

/// The document as JSON, if it is small.
async fn inline(document: Arc<OwnedDocument>) -> anyhow::Result<Option<Box<RawValue>>> {
    if rows(&document).is_some_and(|rows| rows > MAX_INLINE_ENTRIES) {
        return Ok(None);
    }
    let json = tokio::task::spawn_blocking(move || {
        let mut json = Vec::new();
        document.as_document().write_json(&mut json).map(|()| json)
    });
    let json = json.await?.context("writing the document")?;
    if json.len() > MAX_INLINE {
        return Ok(None);
    }
    Ok(Some(RawValue::from_string(String::from_utf8(json)?)?))
}

async fn store_document(
    job: Job<'_>,
    storage: &ArtifactStore,
) -> anyhow::Result<(ArtifactPath, Stored)> {
    let file = job.scratch.join(DOCUMENT);
    let (document, target) = (Arc::clone(job.document), file.clone());
    let written = tokio::task::spawn_blocking(move || {
        let mut writer = std::io::BufWriter::new(std::fs::File::create(&target)?);
        document.as_document().write_lines(&mut writer)?;
        writer.flush()
    });
    written.await?.context("writing the document")?;
    let name = format!("{}-{DOCUMENT}", job.fence);
    let path = ArtifactPath::new(job.path.report(), job.path.attempt(), &name)?;
    let stored = storage.put_file(&path, &file).await.context("storing the document")?;
    tokio::fs::remove_file(&file).await?;
    Ok((path, stored))
}

/// Saves the body of an answer. Returns its size.
async fn save(answer: Response<Incoming>, path: &Path) -> anyhow::Result<usize> {
    let mut file = tokio::fs::File::create(path).await.context("creating a temporary file")?;
    let mut body = answer.into_body();
    let mut size = 0_usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.context("reading the renderer's answer")?;
        let Ok(piece) = frame.into_data() else { continue };
        file.write_all(&piece).await.context("writing a temporary file")?;
        size = size.saturating_add(piece.len());
    }
    file.flush().await?;
    ensure!(size > 0, "the renderer answered with an empty file");
    Ok(size)
}

/// The reference in an answer. A small JSON file of a report can't be taken for one: it
/// has other fields.
async fn reference(
    path: &Path,
    size: usize,
    format: Format,
) -> anyhow::Result<Option<RenderedReference>> {
    if size > MAX_REFERENCE {
        return Ok(None);
    }
    let text = tokio::fs::read(path).await?;
    match serde_json::from_slice(&text) {
        Ok(reference) => Ok(Some(reference)),
        Err(_) if format == Format::Json => Ok(None),
        Err(error) => {
            Err(anyhow!(error).context("the renderer's answer is neither a file nor a reference"))
        }
    }
}

/// Checks a file that the function stored.
async fn stored(
    storage: &ArtifactStore,
    request: &RenderRequest,
    reference: RenderedReference,
) -> anyhow::Result<Rendered> {
    ensure!(
        reference.belongs_to(request.report_id, request.attempt),
        "the renderer's file is outside the folder of its attempt"
    );
    let path: ArtifactPath = reference.href.parse()?;
    let found = storage.digest(&path).await.context("reading the renderer's file")?;
    let found = found.context("the renderer's file is not in the storage")?;
    ensure!(
        found.size == reference.size && hex(&found.sha256) == reference.sha256,
        "the renderer's file has another size or digest than the renderer says"
    );
    Ok(Rendered::Stored(path, found))
}

/// An error of the function.
#[derive(Debug)]
struct FunctionError {
    /// The type of the problem (RFC 9457), if the error is one.
    problem_type: Option<String>,
    /// The beginning of the problem's detail or of the body, as one line.
    text: String,
}

impl FunctionError {
    async fn read(answer: Response<Incoming>) -> Self {
        let mut body = answer.into_body();
        let mut bytes = Vec::new();
        while let Some(Ok(frame)) = body.frame().await {
            bytes.extend(frame.into_data().unwrap_or_default());
            if bytes.len() > 16 * MAX_ERROR {
                break;
            }
        }
        Self::parse(&bytes)
    }

    fn parse(body: &[u8]) -> Self {
        let problem: Option<serde_json::Value> = serde_json::from_slice(body).ok();
        let member = |name: &str| -> Option<String> {
            Some(problem.as_ref()?.get(name)?.as_str()?.to_owned())
        };
        let text = member("detail").unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
        let text = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_ERROR);
        Self { problem_type: member("type"), text: text.collect() }
    }

    /// Whether the document itself is the cause, such as too many rows for a format: no attempt
    /// can succeed.
    fn is_permanent(&self) -> bool {
        let slug = self.problem_type.as_deref().and_then(|name| name.strip_prefix("/problems/"));
        slug == Some(NOT_RENDERABLE.slug)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_problem_of_one_type_is_permanent() {
        for (body, is_permanent, text) in [
            (r#"{"type":"/problems/not-renderable","detail":"too\nlong"}"#, true, "too long"),
            (r#"{"type":"/problems/invalid-field","detail":"layout"}"#, false, "layout"),
            (r#"{"type":"/problems/deployment-mismatch","detail":"d"}"#, false, "d"),
            (r#"{"type":"not-renderable","detail":"d"}"#, false, "d"),
            (r#"{"detail":"d"}"#, false, "d"),
            ("/problems/not-renderable", false, "/problems/not-renderable"),
            ("", false, ""),
        ] {
            let error = FunctionError::parse(body.as_bytes());
            assert_eq!((error.is_permanent(), error.text.as_str()), (is_permanent, text), "{body}");
        }
    }
}
