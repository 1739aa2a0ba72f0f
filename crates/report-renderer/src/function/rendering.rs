//! One rendering, on a thread of its own.

use std::path::Path;

use report_document::Format;
use runtime::http::problem::Problem;
use tempfile::NamedTempFile;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    input::Input,
    problems::{from_io, from_render, internal},
};

/// What ends a rendering, and what it holds until then.
pub(super) struct Limits {
    /// Kept by the thread, which may run on after its client disconnected.
    pub(super) permit: OwnedSemaphorePermit,
    pub(super) stop: CancellationToken,
    pub(super) until: Instant,
}

/// Renders into a temporary file.
pub(super) async fn file(
    format: Format,
    input: Input,
    scratch: &Path,
    limits: Limits,
) -> Result<NamedTempFile, Problem> {
    let mut file = NamedTempFile::new_in(scratch).map_err(|error| from_io(&error))?;
    let render = move || {
        let Input { document, file: entries } = input;
        let Limits { permit, stop, until } = limits;
        let mut progress = |_| !stop.is_cancelled() && Instant::now() < until;
        let rendered =
            crate::render(format, &document.as_document(), file.as_file_mut(), &mut progress);
        drop((entries, permit));
        rendered.map(|()| file)
    };
    let rendered = tokio::task::spawn_blocking(render).await.map_err(|error| internal(&error))?;
    rendered.map_err(|error| from_render(&error))
}
