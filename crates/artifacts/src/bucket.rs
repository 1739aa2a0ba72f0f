//! An S3-compatible storage: how it is opened and listed.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use futures::{Stream, TryStreamExt};
use object_store::{
    BackoffConfig, ObjectStore, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder},
    path::Path as Key,
};
use time::OffsetDateTime;

use crate::{ListedFile, Prefix, StorageConfig, StorageError, http_client::Connector};

/// Requests after the first one, for a rejection or lost connection.
const MAX_RETRIES: usize = 2;

/// Opens a bucket without a connection to it.
///
/// # Errors
/// If the settings contradict each other.
pub(crate) fn open(config: &StorageConfig, bucket: &str) -> Result<AmazonS3> {
    let retry = RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(200),
            max_backoff: Duration::from_secs(2),
            base: 2.0,
        },
        max_retries: MAX_RETRIES,
        retry_timeout: config.timeout,
    };
    // `from_env` reads AWS's variables, among others those of a pod's or machine's role.
    let builder = match (&config.s3_access_key_id, &config.s3_secret_access_key) {
        (Some(id), Some(secret)) => AmazonS3Builder::new()
            .with_access_key_id(id.as_str())
            .with_secret_access_key(secret.expose()),
        (None, None) => AmazonS3Builder::from_env(),
        _ => anyhow::bail!("an S3 access key needs its secret, and the secret its key"),
    };
    let mut builder = builder
        .with_bucket_name(bucket)
        .with_region(config.s3_region.as_str())
        .with_allow_http(config.s3_allow_http)
        .with_retry(retry)
        .with_http_connector(Connector::new(config.timeout, config.s3_ca.as_deref())?);
    if let Some(endpoint) = &config.s3_endpoint {
        let scheme = endpoint.split_once("://").map(|(scheme, _)| scheme);
        ensure!(matches!(scheme, Some("http" | "https")), "the S3 endpoint must be an http(s) URL");
        ensure!(
            scheme == Some("https") || config.s3_allow_http,
            "the S3 endpoint has no TLS: PASSBOOK_REPORT_S3_ALLOW_HTTP=true allows it"
        );
        builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
    }
    builder.build().context("the S3 storage")
}

/// The artifacts of a bucket below its prefix `root`.
pub(crate) fn list(
    store: Arc<AmazonS3>,
    root: Key,
    prefix: Prefix,
) -> impl Stream<Item = Result<ListedFile, StorageError>> + Send {
    let below = match (root.as_ref(), prefix.folder()) {
        ("", None) => None,
        ("", Some(folder)) => Some(Key::from(folder)),
        (_, None) => Some(root.clone()),
        (root, Some(folder)) => Some(Key::from(format!("{root}/{folder}"))),
    };
    store.list(below.as_ref()).map_err(StorageError::from).try_filter_map(move |object| {
        let key = object.location.as_ref();
        let path = match root.as_ref() {
            "" => Some(key),
            root => key.strip_prefix(root).and_then(|rest| rest.strip_prefix('/')),
        };
        let path = path.and_then(|path| path.parse().ok());
        let seconds = object.last_modified.timestamp();
        let modified = OffsetDateTime::from_unix_timestamp(seconds);
        let listed = path.zip(modified.ok());
        let size = object.size;
        std::future::ready(Ok(listed.map(|(path, modified)| ListedFile { path, size, modified })))
    })
}
