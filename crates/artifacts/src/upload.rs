//! Sends a local file to the storage in bounded memory.

use std::{future::Future, path::Path};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream::FuturesUnordered};
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, path::Path as Key};
use tokio::{fs::File, io::AsyncReadExt};
use tracing::warn;

use crate::{FileDigest, StorageError, Stored, limit::Limit};

/// Size of the parts, but the last. S3's minimum; 10,000 parts are S3's maximum.
const PART: usize = 5 * 1024 * 1024;

/// Parts on their way at the same time. One more is in memory while it is read.
const PARTS_IN_FLIGHT: usize = 2;

/// Files up to this size are sent in one request.
const MAX_SINGLE: u64 = 8 * 1024 * 1024;

/// Stores `file` under `key`: completely or not at all.
pub(crate) async fn upload<S: ObjectStore>(
    store: &S,
    limit: Limit,
    key: &Key,
    file: &Path,
) -> Result<Stored, StorageError> {
    let mut source = Source::open(file).await?;
    if source.length <= MAX_SINGLE {
        // A file that grew meanwhile is cut at a limit, and the caller sees its size.
        let content = source.read(usize::try_from(MAX_SINGLE).unwrap_or(PART)).await?;
        limit.run(store.put(key, content.into())).await?;
        return Ok(source.digest.stored());
    }
    let mut parts = limit.run(store.put_multipart(key)).await?;
    let sent = send_parts(&mut source, limit, &mut *parts).await;
    let completed = match sent {
        Ok(()) => limit.run(parts.complete()).await.map(|_| ()),
        Err(error) => Err(error),
    };
    match completed {
        Ok(()) => Ok(source.digest.stored()),
        Err(error) => {
            if let Err(abort) = limit.run(parts.abort()).await {
                // An expiry rule of the bucket has to remove the parts.
                warn!(%key, "parts of a failed upload stay in the storage: {abort}");
            }
            Err(error)
        }
    }
}

async fn send_parts(
    source: &mut Source,
    limit: Limit,
    upload: &mut dyn MultipartUpload,
) -> Result<(), StorageError> {
    let mut in_flight = FuturesUnordered::new();
    loop {
        let part = source.read(PART).await?;
        if part.is_empty() {
            break;
        }
        if in_flight.len() == PARTS_IN_FLIGHT {
            wait(&mut in_flight).await?;
        }
        in_flight.push(limit.run(upload.put_part(part.into())));
    }
    while !in_flight.is_empty() {
        wait(&mut in_flight).await?;
    }
    Ok(())
}

async fn wait<F>(in_flight: &mut FuturesUnordered<F>) -> Result<(), StorageError>
where
    F: Future<Output = Result<(), StorageError>>,
{
    in_flight.next().await.unwrap_or(Ok(()))
}

/// A local file, hashed while it is read.
struct Source {
    file: File,
    /// What errors say about the file.
    name: String,
    /// The length at the beginning.
    length: u64,
    digest: FileDigest,
}

impl Source {
    async fn open(path: &Path) -> Result<Self, StorageError> {
        let name = path.display().to_string();
        let unreadable = |error| StorageError::Other(format!("reading {name}: {error}"));
        let file = File::open(path).await.map_err(unreadable)?;
        let metadata = file.metadata().await.map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(StorageError::Other(format!("{name} is no file")));
        }
        Ok(Self { file, length: metadata.len(), digest: FileDigest::default(), name })
    }

    /// Reads up to `length` bytes; less only at the end of the file.
    async fn read(&mut self, length: usize) -> Result<Bytes, StorageError> {
        let mut part = BytesMut::with_capacity(length);
        while part.len() < length {
            let mut rest = (&mut self.file).take(u64::try_from(length - part.len()).unwrap_or(0));
            let read = rest.read_buf(&mut part).await;
            let read = read
                .map_err(|error| StorageError::Other(format!("reading {}: {error}", self.name)))?;
            if read == 0 {
                break;
            }
        }
        self.digest.update(&part);
        Ok(part.freeze())
    }
}
