//! Stores the files of reports, in a local folder or in S3-compatible object storage.
//!
//! A file appears under its name completely or not at all. Each call has a time limit and needs
//! memory for a few parts of 5 MiB only. The storage knows no report's state: the report-service
//! keeps size and digest of each file and compares them with [`ArtifactStore::digest`].
//!
//! An S3 upload that was killed leaves parts in the bucket that no listing shows. A lifecycle rule
//! of the bucket (`AbortIncompleteMultipartUpload`) has to remove them.

mod bucket;
mod config;
mod digest;
mod error;
mod http_client;
mod limit;
mod local_folder;
mod path;
mod store;
mod upload;

pub use crate::{
    config::{StorageConfig, StorageSecret, StorageUrl},
    digest::{FileDigest, Stored},
    error::StorageError,
    path::{ArtifactPath, InvalidPath, Prefix},
    store::{ArtifactStore, ListedFile},
};
