//! The problems of the function. [`NOT_RENDERABLE`] is permanent: no try can render the document.
//! The report-service tries again after every other one, and decides by the type.
//!
//! An earlier release of it takes every 422 as permanent, so a fault of the deployment has
//! another status.

use std::io;

use artifacts::StorageError;
use runtime::{
    http::problem::{INTERNAL, Problem, UNAVAILABLE},
    problem_types,
};

use crate::RenderError;

problem_types! {
    /// All permits are taken.
    pub(super) const BUSY: (SERVICE_UNAVAILABLE, "busy",
        "The renderer is busy.",
        "Send the request again after the seconds in `Retry-After`.");
    /// Rendering took too long, or the process ends.
    const STOPPED: (SERVICE_UNAVAILABLE, "stopped",
        "The rendering was stopped.",
        "Send the request again after the seconds in `Retry-After`.");
    /// The format can't hold the document.
    pub const NOT_RENDERABLE: (UNPROCESSABLE_ENTITY, "not-renderable",
        "The document can't be rendered in this format.",
        "Use another format.");
    /// The function's release or storage is another one than that of the report-service.
    pub(super) const DEPLOYMENT_MISMATCH: (CONFLICT, "deployment-mismatch",
        "The renderer does not fit the report-service.",
        "Run both with one release and one storage, then send the request again.");
    /// The document is incomplete or of another kind.
    pub(super) const INVALID_DOCUMENT: (UNPROCESSABLE_ENTITY, "invalid-document",
        "The document is invalid.",
        "Send the whole document of the named kind.");
}

/// Seconds until a full disk or a lost storage may work again.
const RETRY_AFTER: u16 = 10;

pub(super) fn from_render(error: &RenderError) -> Problem {
    match error {
        RenderError::Stopped => {
            STOPPED.because("It took too long, or the process ends.").retry_after(RETRY_AFTER)
        }
        RenderError::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            INVALID_DOCUMENT.because(format!("{error}."))
        }
        RenderError::Io(error) => from_io(error),
        RenderError::Other(detail) => internal(detail),
        permanent => NOT_RENDERABLE.because(format!("{permanent}.")),
    }
}

/// A temporary file failed.
pub(super) fn from_io(error: &io::Error) -> Problem {
    tracing::error!(%error, "a temporary file failed");
    UNAVAILABLE.because("A temporary file failed; it was logged.").retry_after(RETRY_AFTER)
}

pub(super) fn from_storage(error: &StorageError) -> Problem {
    tracing::error!(%error, "the storage failed");
    UNAVAILABLE.because("The storage failed; it was logged.").retry_after(RETRY_AFTER)
}

pub(super) fn internal(error: &dyn std::fmt::Display) -> Problem {
    tracing::error!(%error, "a report was not rendered because of a bug");
    INTERNAL.because("This is a bug; it was logged.")
}
