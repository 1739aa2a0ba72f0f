//! The errors of the store.

use runtime::postgres::{self, CallError, NoAnswer};

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database's error.
    #[error(transparent)]
    Database(sqlx::Error),
    /// The database did not answer in time.
    #[error(transparent)]
    NoAnswer(#[from] NoAnswer),
    /// A row holds a value that no version of this service writes.
    #[error("report {0} has an invalid value")]
    InvalidRow(uuid::Uuid),
    /// An idempotency key is taken, but the report with this key is missing.
    #[error("the report of a taken idempotency key is missing")]
    MissingReport,
}

impl CallError for StoreError {
    fn is_transient(&self) -> bool {
        match self {
            Self::Database(error) => postgres::is_transient(error),
            Self::NoAnswer(_) => true,
            Self::InvalidRow(_) | Self::MissingReport => false,
        }
    }

    fn stored_nothing(&self) -> bool {
        matches!(self, Self::Database(error) if postgres::stored_nothing(error))
    }
}

impl StoreError {
    /// Whether a row stayed locked; see [`postgres::is_locked`].
    #[must_use]
    pub fn is_locked(&self) -> bool {
        matches!(self, Self::Database(error) if postgres::is_locked(error))
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        postgres::note(&error);
        Self::Database(error)
    }
}
