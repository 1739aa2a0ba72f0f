//! Renders one format: in this process, or by the external renderer.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, anyhow};
use artifacts::{ArtifactPath, ArtifactStore, Stored};
use report_document::{Format, OwnedDocument};
use report_renderer::RenderError;

use super::{RemoteRenderer, attempt::AttemptError, control::Control};
use crate::report::Report;

/// The number of rows to render, if it is known.
pub(super) fn rows(document: &OwnedDocument) -> Option<u64> {
    match document {
        OwnedDocument::Statement(statement, _) | OwnedDocument::LargeStatement(statement, _) => {
            Some(statement.entries())
        }
        OwnedDocument::Activity(_) | OwnedDocument::Reconciliation(_) => None,
    }
}

/// Renders formats.
#[derive(Debug)]
pub enum Renderer {
    /// In this process.
    Local,
    /// By an HTTP function.
    Remote(Box<RemoteRenderer>),
}

/// One format of one attempt.
#[derive(Debug, Clone, Copy)]
pub(super) struct Job<'a> {
    pub(super) report: &'a Report,
    /// The fence of the claim. The names of stored files begin with it.
    pub(super) fence: &'a str,
    pub(super) format: Format,
    pub(super) document: &'a Arc<OwnedDocument>,
    /// The directory of temporary files.
    pub(super) scratch: &'a Path,
    /// The place of the file in the storage.
    pub(super) path: &'a ArtifactPath,
}

/// A rendered file.
#[derive(Debug)]
pub(super) enum Rendered {
    /// A temporary file, not stored yet.
    File(PathBuf),
    /// Stored by the external renderer.
    Stored(ArtifactPath, Stored),
}

impl Renderer {
    /// Renders one format.
    pub(super) async fn render(
        &self,
        job: Job<'_>,
        storage: &ArtifactStore,
        control: &Control,
    ) -> Result<Rendered, AttemptError> {
        match self {
            Self::Local => local(job, control).await,
            Self::Remote(remote) => remote.render(job, storage, control).await,
        }
    }
}

/// Renders on a thread of its own, because rendering computes for seconds. The thread
/// ends soon after the attempt.
async fn local(job: Job<'_>, control: &Control) -> Result<Rendered, AttemptError> {
    let path = job.scratch.join(format!("rendered.{}", job.format.extension()));
    let (document, format) = (Arc::clone(job.document), job.format);
    let (target, control) = (path.clone(), control.clone());
    let rendered = tokio::task::spawn_blocking(move || {
        let mut file = std::fs::File::create(&target)?;
        let mut progress = |rows| control.rows(rows);
        report_renderer::render(format, &document.as_document(), &mut file, &mut progress)
    });
    match rendered.await.context("rendering panicked")? {
        Ok(()) => Ok(Rendered::File(path)),
        Err(RenderError::Stopped) => Err(AttemptError::Ended),
        Err(error) if error.is_permanent() => Err(AttemptError::Impossible(error.to_string())),
        Err(error) => Err(anyhow!(error).context(format!("rendering {format}")).into()),
    }
}
