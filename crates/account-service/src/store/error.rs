//! The errors of the store.

use std::sync::Arc;

use runtime::{
    postgres::{self, CallError, NoAnswer},
    worker::Failure,
};

/// An error of the store. It can be cloned, for every request of a batch.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The database's error.
    #[error(transparent)]
    Database(Arc<sqlx::Error>),
    /// The database did not answer in time.
    #[error(transparent)]
    NoAnswer(#[from] NoAnswer),
    /// Another transaction holds a whole table.
    #[error("a table is locked")]
    TableLocked,
    /// The database was not asked: the process stops, or its queue stayed full.
    #[error("the request was not queued")]
    NotQueued,
    /// The database was perhaps asked, but the task that asks has ended.
    #[error("the process stops")]
    Stopped,
    /// A read after a commit failed: part of the batch is stored, or the request was before.
    #[error("after the commit: {0}")]
    AfterCommit(Arc<StoreError>),
    /// A row holds a value that no version of this service writes.
    #[error("{0} has an invalid value")]
    InvalidRow(String),
    /// An idempotency key is taken, but the record with this key is missing.
    #[error("the record of a taken idempotency key is missing")]
    MissingRecord,
}

impl CallError for StoreError {
    fn is_transient(&self) -> bool {
        match self {
            Self::Database(error) => postgres::is_transient(error),
            Self::AfterCommit(error) => error.is_transient(),
            Self::NoAnswer(_) | Self::TableLocked | Self::NotQueued | Self::Stopped => true,
            Self::InvalidRow(_) | Self::MissingRecord => false,
        }
    }

    fn stored_nothing(&self) -> bool {
        match self {
            Self::Database(error) => postgres::stored_nothing(error),
            Self::NotQueued | Self::TableLocked => true,
            Self::NoAnswer(_) | Self::Stopped | Self::AfterCommit(_) => false,
            Self::InvalidRow(_) | Self::MissingRecord => false,
        }
    }
}

impl StoreError {
    /// Whether a row or key stayed locked; see [`postgres::is_locked`].
    #[must_use]
    pub fn is_locked(&self) -> bool {
        matches!(self, Self::Database(error) if postgres::is_locked(error))
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        postgres::note(&error);
        Self::Database(Arc::new(error))
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        if error.is_locked() {
            Self::Locked(error.into())
        } else if error.is_transient() {
            Self::Transient(error.into())
        } else {
            Self::Other(error.into())
        }
    }
}
