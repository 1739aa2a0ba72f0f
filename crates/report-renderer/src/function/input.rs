//! The document of a request.

use std::path::Path;

use artifacts::{ArtifactPath, ArtifactStore, StorageError};
use report_document::{DocumentReference, DocumentSource, OwnedDocument, RenderRequest, TEMPLATE};
use runtime::http::problem::{INVALID_FIELD, Problem};
use tempfile::{NamedTempFile, TempPath};

use super::{
    output::hex,
    problems::{DEPLOYMENT_MISMATCH, INVALID_DOCUMENT, from_io, from_storage, internal},
};

/// A document, and the file of its entries.
pub(super) struct Input {
    pub(super) document: OwnedDocument,
    /// Deleted with the last use of the document.
    pub(super) file: Option<TempPath>,
}

/// Reads the document from the request or from the storage.
pub(super) async fn document(
    request: &RenderRequest,
    storage: Option<&ArtifactStore>,
    scratch: &Path,
) -> Result<Input, Problem> {
    // Before anything is read: a document of another layout may have other fields.
    check_layout(request.template)?;
    if !request.kind.formats().contains(&request.format) {
        let detail = format!("A {} can't be made as {}.", request.kind, request.format);
        return Err(INVALID_FIELD.because(detail).at("format"));
    }
    let source = request.source();
    let source =
        source.map_err(|error| INVALID_FIELD.because(format!("{error}.")).at("document"))?;
    let kind = request.kind;
    let input = match source {
        DocumentSource::Inline(json) => {
            let json = json.to_owned();
            let read = move || OwnedDocument::from_json(kind, json.get());
            let document = tokio::task::spawn_blocking(read).await.map_err(|e| internal(&e))?;
            let document = document.map_err(|e| INVALID_DOCUMENT.because(format!("{e}.")))?;
            Input { document, file: None }
        }
        DocumentSource::Reference(reference) => {
            let storage = storage.ok_or_else(|| {
                DEPLOYMENT_MISMATCH.because("This function has no storage.").at("documentHref")
            })?;
            let file = download(reference, storage, scratch).await?;
            let document = OwnedDocument::from_lines(kind, &file);
            let document = document.map_err(|e| INVALID_DOCUMENT.because(format!("{e}.")))?;
            Input { document, file: Some(file) }
        }
    };
    check_layout(input.document.template())?;
    Ok(input)
}

/// Another layout is that of another release.
fn check_layout(template: u32) -> Result<(), Problem> {
    if template == TEMPLATE {
        return Ok(());
    }
    let detail = format!("This renderer has the layout {TEMPLATE} only.");
    Err(DEPLOYMENT_MISMATCH.because(detail).at("template"))
}

async fn download(
    reference: DocumentReference<'_>,
    storage: &ArtifactStore,
    scratch: &Path,
) -> Result<TempPath, Problem> {
    let path: ArtifactPath = reference
        .href
        .parse()
        .map_err(|error| INVALID_FIELD.because(format!("{error}.")).at("documentHref"))?;
    let file = NamedTempFile::new_in(scratch).map_err(|error| from_io(&error))?.into_temp_path();
    let found = match storage.download(&path, &file).await {
        Ok(found) => found,
        Err(StorageError::NotFound(_)) => {
            return Err(DEPLOYMENT_MISMATCH.because(format!("{path} is not in the storage.")));
        }
        Err(error) => return Err(from_storage(&error)),
    };
    if found.size == reference.size && hex(&found.sha256) == reference.sha256 {
        Ok(file)
    } else {
        Err(DEPLOYMENT_MISMATCH.because(format!("{path} has another size or SHA-256.")))
    }
}
