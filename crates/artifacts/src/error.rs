//! What a caller can do about a failed call.

use std::{error::Error, io};

use crate::http_client::Rejected;

/// Why a call to the storage failed.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("{0} is not in the storage")]
    NotFound(String),
    /// The disk or the quota is used up.
    #[error("the storage is full: {0}")]
    Full(String),
    /// The storage can't be reached, or refuses to work for now. A later try may succeed.
    #[error("the storage is unavailable: {0}")]
    Unavailable(String),
    /// Wrong credentials, a missing bucket, a file with another size, an unreadable local file.
    #[error("storage: {0}")]
    Other(String),
}

impl StorageError {
    /// Whether the same call may succeed later, without a change of the configuration.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Full(_) | Self::Unavailable(_))
    }
}

impl From<object_store::Error> for StorageError {
    fn from(error: object_store::Error) -> Self {
        use object_store::Error as E;
        let text = chain(&error);
        // A refusal or a full disk is somewhere below object_store's wrappers.
        let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
        while let Some(current) = cause {
            if let Some(rejected) = current.downcast_ref::<Rejected>() {
                return match rejected {
                    _ if rejected.is_full() => Self::Full(text),
                    _ if rejected.is_transient() => Self::Unavailable(text),
                    _ => Self::Other(text),
                };
            }
            if let Some(io) = current.downcast_ref::<io::Error>()
                && !matches!(io.kind(), io::ErrorKind::NotFound | io::ErrorKind::Other)
            {
                return Self::from_io(io, text);
            }
            if current.is::<object_store::client::HttpError>() && !has_typed_cause(current) {
                return Self::Unavailable(text);
            }
            cause = current.source();
        }
        match error {
            E::NotFound { path, .. } => Self::NotFound(path),
            _ => Self::Other(text),
        }
    }
}

impl StorageError {
    /// `text` describes the error and its place.
    pub(crate) fn from_io(error: &io::Error, text: String) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::NotFound => Self::NotFound(text),
            Kind::StorageFull | Kind::QuotaExceeded => Self::Full(text),
            Kind::InvalidInput
            | Kind::InvalidData
            | Kind::InvalidFilename
            | Kind::NotADirectory
            | Kind::IsADirectory
            | Kind::FileTooLarge => Self::Other(text),
            // A folder without write permission, a lost mount, an I/O error: an operator repairs
            // them, and the report is tried again.
            _ => Self::Unavailable(text),
        }
    }
}

/// Whether a cause below `error` says more than `error` itself.
fn has_typed_cause(error: &(dyn Error + 'static)) -> bool {
    let mut cause = error.source();
    while let Some(current) = cause {
        if current.is::<Rejected>() {
            return true;
        }
        cause = current.source();
    }
    false
}

/// The messages of an error and its causes. Causes repeated by their parent are left out.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(current) = cause {
        let message = current.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = current.source();
    }
    text
}
