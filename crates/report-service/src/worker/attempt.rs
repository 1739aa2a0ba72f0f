//! One attempt: read the figures, render the formats, store the files, commit.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context;
use artifacts::{ArtifactPath, ArtifactStore};
use report_document::{Format, OwnedDocument};
use runtime::{
    failpoint,
    postgres::{CallError, PgPool, limited},
    telemetry::trace::{Stepped, Trace},
};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use super::{
    control::{Control, Early},
    render::{self, Renderer},
};
use crate::{
    cleanup::{self, scratch_name},
    figures::Figures,
    job::{Outcome, State, Tries},
    report::{Claimed, NewArtifact, Report},
    signer::Signer,
    store::{self, StoreError, Success},
    telemetry,
};

/// The pause before the end of an attempt is written again, while the database is
/// away.
const PAUSE: Duration = Duration::from_secs(1);

/// Why an attempt has no files.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttemptError {
    /// It was asked to end.
    #[error("the attempt was asked to end")]
    Ended,
    /// Another attempt would fail in the same way, until an operator has repaired something.
    #[error("{0}")]
    Permanent(String),
    /// The request can't be fulfilled, such as a statement with too many rows for its format. The
    /// client may read why.
    #[error("{0}")]
    Impossible(String),
    /// Another attempt can succeed.
    #[error("{0:#}")]
    Retry(#[from] anyhow::Error),
}

/// Makes attempts.
#[derive(Debug)]
pub struct Attempts {
    /// The database with the reports.
    pub pool: PgPool,
    /// Reads the figures.
    pub figures: Figures,
    /// Renders the formats.
    pub renderer: Renderer,
    /// Stores the files.
    pub storage: Arc<ArtifactStore>,
    /// Signs the files.
    pub signer: Option<Arc<Signer>>,
    /// The directory of temporary files.
    pub scratch: PathBuf,
    /// How long files are kept.
    pub retention: Duration,
    /// The limits of attempts.
    pub tries: Tries,
}

impl Attempts {
    /// Makes one attempt and commits its end. If the database does not take the end
    /// while the lease lasts, the report counts as lost.
    pub(super) async fn make(
        &self,
        claimed: Claimed,
        trace: Trace,
        lease: Duration,
        stop: &CancellationToken,
    ) {
        let (begun, report) = (Step::begin(trace), &claimed.report);
        let key = claimed.key();
        tracing::info!(report.id = %report.id, attempt = report.attempt,
            kind = %report.parameters.kind(), "a report begins");
        let control = Control::new(trace);
        let scratch = self.scratch.join(scratch_name(key));
        let ended = tokio::select! {
            ended = self.make_and_commit(&claimed, &control, &scratch) => ended,
            () = control.keep_lease(&self.pool, key, lease, stop) => Err(AttemptError::Ended),
        };
        let outcome = match (&ended, control.early()) {
            (Ok(()), _) => None,
            (Err(AttemptError::Permanent(error)), _) => Some(Outcome::FailedForGood(error.clone())),
            (Err(AttemptError::Impossible(error)), _) => Some(Outcome::Impossible(error.clone())),
            (Err(AttemptError::Retry(error)), None) => Some(Outcome::Failed(format!("{error:#}"))),
            (Err(_), Some(Early::Stopping)) => Some(Outcome::HandedOver),
            (Err(_), Some(Early::Cancelled)) => Some(Outcome::Cancelled),
            // Fenced off: another attempt has the report, or soon will.
            (Err(_), Some(Early::LeaseLost) | None) => None,
        };
        if ended.is_ok() {
            self.ended(report, "SUCCEEDED", State::Succeeded, begun);
        } else if let Some(outcome) = outcome {
            self.end(&claimed, &outcome, lease, begun).await;
        }
        if ended.is_err() {
            self.delete_files(report).await;
        }
        remove_scratch(&scratch).await;
        let error = ended.err().map(|error| error.to_string());
        begun.record(format!("report {}", report.parameters.kind()), report, error);
    }

    async fn make_and_commit(
        &self,
        claimed: &Claimed,
        control: &Control,
        scratch: &Path,
    ) -> Result<(), AttemptError> {
        let report = &claimed.report;
        let files = self.files(claimed, control, scratch).await?;
        control.step("commit", None);
        failpoint::point("report.stored", &report.id);
        loop {
            let key = claimed.key();
            let success = limited(store::succeed(&self.pool, key, &files, self.retention)).await;
            match success.map_err(StoreError::from).and_then(|success| success) {
                Ok(Success::Committed) => return Ok(()),
                Ok(Success::Cancelled) => {
                    control.ask_to_end(Early::Cancelled);
                    return Err(AttemptError::Ended);
                }
                Ok(Success::Fenced) => return Err(AttemptError::Ended),
                Err(error) if error.is_transient() => {
                    tracing::warn!(%error, "committing a report failed; retrying");
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(AttemptError::Retry(error.into())),
            }
        }
    }

    /// Reads the figures, renders each format and stores its file.
    async fn files(
        &self,
        claimed: &Claimed,
        control: &Control,
        scratch: &Path,
    ) -> Result<Vec<NewArtifact>, AttemptError> {
        let report = &claimed.report;
        tokio::fs::create_dir_all(scratch)
            .await
            .with_context(|| format!("creating {}", scratch.display()))?;
        failpoint::point("report.begun", &report.id);
        let begun = Step::begin(control.trace().child());
        let document = self.figures.read(claimed, control, scratch).await;
        begun.end("read", report, document.as_ref().err());
        let document = document?;
        failpoint::point("report.read", &report.id);
        let document = Arc::new(document);
        let mut files = Vec::with_capacity(report.formats.len());
        for format in &report.formats {
            files.push(self.file(claimed, *format, &document, control, scratch).await?);
        }
        Ok(files)
    }

    async fn file(
        &self,
        claimed: &Claimed,
        format: Format,
        document: &Arc<OwnedDocument>,
        control: &Control,
        scratch: &Path,
    ) -> Result<NewArtifact, AttemptError> {
        if control.end().is_cancelled() {
            return Err(AttemptError::Ended);
        }
        let report = &claimed.report;
        let begun = Step::begin(control.trace().child());
        control.step(format!("render {format}"), render::rows(document));
        let file_name = format!("{}.{}", report.parameters.file_stem(), format.extension());
        let attempt = u32::try_from(report.attempt).context("the number of the attempt")?;
        let fence = claimed.key().fence_text();
        let path = ArtifactPath::new(report.id.as_uuid(), attempt, &format!("{fence}-{file_name}"))
            .context("the place of a file")?;
        let job = render::Job { report, fence: &fence, format, document, scratch, path: &path };
        let rendered = self.renderer.render(job, &self.storage, control).await;
        begun.end("render", report, rendered.as_ref().err());
        let begun = Step::begin(control.trace().child());
        let (path, stored) = match rendered? {
            render::Rendered::Stored(path, stored) => (path, stored),
            render::Rendered::File(file) => {
                control.step(format!("store {format}"), None);
                let stored = self.storage.put_file(&path, &file).await;
                let stored = stored.with_context(|| format!("storing {path}"))?;
                let _ = tokio::fs::remove_file(&file).await;
                (path, stored)
            }
        };
        begun.end("store", report, None);
        failpoint::point("report.file-stored", &(report.id, format));
        metrics::counter!("passbook_report_artifacts_bytes_total", "format" => format.as_str())
            .increment(stored.size);
        let sign = |signer: &Arc<Signer>| signer.sign(&stored.sha256, stored.size);
        Ok(NewArtifact {
            format,
            path: path.to_string(),
            size: stored.size,
            sha256: stored.sha256,
            signature: self.signer.as_ref().map(sign),
            file_name,
        })
    }

    /// Commits the end of an attempt without files.
    async fn end(&self, claimed: &Claimed, outcome: &Outcome, lease: Duration, begun: Step) {
        let (report, key) = (&claimed.report, claimed.key());
        let deadline = Instant::now() + lease;
        loop {
            let next = limited(store::end(&self.pool, key, outcome, self.tries)).await;
            match next.map_err(StoreError::from).and_then(|next| next) {
                Ok(Some(next)) => {
                    tracing::warn!(report.id = %report.id, attempt = report.attempt,
                        outcome = outcome.as_str(), error = outcome.error(), state = %next.state,
                        "an attempt ended without files");
                    return self.ended(report, outcome.as_str(), next.state, begun);
                }
                Ok(None) => {
                    tracing::warn!(report.id = %report.id, attempt = report.attempt,
                        "the attempt was fenced off: another one has the report");
                    return;
                }
                Err(error) if Instant::now() < deadline => {
                    tracing::warn!(%error, "committing the end of an attempt failed; retrying");
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => {
                    tracing::error!(%error, report.id = %report.id,
                        "the end of an attempt was not committed: the report counts as lost");
                    return;
                }
            }
        }
    }

    fn ended(&self, report: &Report, outcome: &'static str, state: State, begun: Step) {
        let since = OffsetDateTime::now_utc() - report.created_at;
        let since = Duration::try_from(since).unwrap_or_default();
        telemetry::ended_attempt(report.parameters.kind().as_str(), outcome, state, Some(since));
        tracing::info!(report.id = %report.id, attempt = report.attempt, outcome, state = %state,
            duration_ms = begun.begun.0.elapsed().as_millis(), "an attempt ended");
    }

    /// Deletes the files of an attempt without success. What is left here, the
    /// clean-up finds.
    async fn delete_files(&self, report: &Report) {
        let (id, attempt) = (report.id, report.attempt);
        let deleted = cleanup::delete_unwanted(&self.pool, &self.storage, (id, attempt));
        if let Err(error) = deleted.await {
            tracing::warn!(report.id = %id, attempt, error = format!("{error:#}"),
                "deleting the files of an attempt failed; the clean-up retries");
        }
    }
}

/// The begin of a step, and the place of its span.
#[derive(Debug, Clone, Copy)]
struct Step {
    trace: Trace,
    begun: (Instant, SystemTime),
}

impl Step {
    fn begin(trace: Trace) -> Self {
        Self { trace, begun: (Instant::now(), SystemTime::now()) }
    }

    /// Records the metric and the span of a step.
    fn end(self, step: &'static str, report: &Report, error: Option<&AttemptError>) {
        let kind = report.parameters.kind().as_str();
        metrics::histogram!("passbook_report_step_seconds", "kind" => kind, "step" => step)
            .record(self.begun.0.elapsed().as_secs_f64());
        self.record(step.to_owned(), report, error.map(ToString::to_string));
    }

    fn record(self, name: String, report: &Report, error: Option<String>) {
        if self.trace.is_recorded() {
            self.trace.stepped(Stepped {
                begun: self.begun.1,
                name: name.into(),
                attributes: vec![
                    ("passbook.report.id", report.id.to_string()),
                    ("passbook.report.attempt", report.attempt.to_string()),
                ],
                error,
            });
        }
    }
}

async fn remove_scratch(scratch: &Path) {
    if let Err(error) = tokio::fs::remove_dir_all(scratch).await
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %scratch.display(), "removing temporary files failed");
    }
}
