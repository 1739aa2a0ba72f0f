//! The answer: a file, or its place in the storage.

use artifacts::{ArtifactPath, ArtifactStore, FileDigest, Stored};
use axum::{
    Json,
    body::Body,
    http::{HeaderName, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use report_document::{RenderRequest, RenderedReference};
use runtime::http::problem::Problem;
use tempfile::NamedTempFile;
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt},
};
use tokio_util::io::ReaderStream;

use super::{
    FunctionConfig,
    problems::{from_io, from_storage, internal},
};

/// RFC 9530: the client notices a file that was cut off or changed.
const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");
/// Bytes of one piece of an answer.
const PIECE: usize = 64 * 1024;

/// Answers with the file if it is small or there is no storage, else stores it.
pub(super) async fn answer(
    request: &RenderRequest,
    rendered: NamedTempFile,
    storage: Option<&ArtifactStore>,
    config: &FunctionConfig,
) -> Result<Response, Problem> {
    let size = rendered.as_file().metadata().map_err(|error| from_io(&error))?.len();
    match storage {
        Some(storage) if size > config.report_renderer_max_answer => {
            store(request, &rendered, storage).await
        }
        _ => file(request, rendered).await.map_err(|error| from_io(&error)),
    }
}

async fn store(
    request: &RenderRequest,
    rendered: &NamedTempFile,
    storage: &ArtifactStore,
) -> Result<Response, Problem> {
    let fence = request.fence.as_ref().map(|fence| format!("{fence}-")).unwrap_or_default();
    let name = format!("{fence}{}.{}", request.kind, request.format.extension());
    let path = ArtifactPath::new(request.report_id.as_uuid(), request.attempt, &name)
        .map_err(|error| internal(&error))?;
    let stored = storage.put_file(&path, rendered.path()).await.map_err(|e| from_storage(&e))?;
    let (href, sha256) = (path.to_string(), hex(&stored.sha256));
    Ok(Json(RenderedReference { href, sha256, size: stored.size }).into_response())
}

/// The file, streamed from the disk. It has no name any more, so it is gone with the
/// answer.
async fn file(request: &RenderRequest, rendered: NamedTempFile) -> std::io::Result<Response> {
    let mut file = File::from_std(rendered.into_file());
    let Stored { size, sha256 } = digest(&mut file).await?;
    let headers = [
        (header::CONTENT_TYPE, request.format.media_type().to_owned()),
        (header::CONTENT_LENGTH, size.to_string()),
        (REPR_DIGEST, format!("sha-256=:{}:", STANDARD.encode(sha256))),
    ];
    let body = Body::from_stream(ReaderStream::with_capacity(file, PIECE));
    Ok((headers, body).into_response())
}

/// The digest of the whole file, whose position is at its start afterwards.
async fn digest(file: &mut File) -> std::io::Result<Stored> {
    file.rewind().await?;
    let (mut digest, mut buffer) = (FileDigest::default(), vec![0; PIECE]);
    loop {
        let length = file.read(&mut buffer).await?;
        match buffer.get(..length) {
            Some(piece) if !piece.is_empty() => digest.update(piece),
            _ => break,
        }
    }
    file.rewind().await?;
    Ok(digest.stored())
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}
