//! The calls of the storage, for both kinds of it.

use std::{ops::Range, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use bytes::Bytes;
use futures::{Stream, TryStreamExt, future::Either, stream};
use object_store::{
    GetOptions, ObjectStore, ObjectStoreExt, aws::AmazonS3, local::LocalFileSystem,
    path::Path as Key,
};
use time::OffsetDateTime;
use tokio::{
    fs::OpenOptions,
    io::{AsyncWriteExt, BufWriter},
};
use uuid::Uuid;

use crate::{
    ArtifactPath, FileDigest, Prefix, StorageConfig, StorageError, StorageUrl, Stored, bucket,
    limit::Limit,
    local_folder::{self, LocalFolder},
    upload,
};

/// The files of reports.
#[derive(Debug, Clone)]
pub struct ArtifactStore {
    backend: Backend,
    limit: Limit,
    /// The storage's address, for messages.
    url: StorageUrl,
}

#[derive(Debug, Clone)]
enum Backend {
    Local { folder: LocalFolder, store: LocalFileSystem },
    S3 { store: Arc<AmazonS3>, prefix: Key },
}

/// A file in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedFile {
    pub path: ArtifactPath,
    /// Bytes.
    pub size: u64,
    /// When the file was stored.
    pub modified: OffsetDateTime,
}

impl ArtifactStore {
    /// Opens the storage without a connection to it. Creates a missing local folder.
    ///
    /// # Errors
    /// If the configuration is contradictory, or the local folder can't be made.
    pub fn open(config: &StorageConfig) -> Result<Self> {
        let backend = match &config.url {
            StorageUrl::Folder(path) => {
                let folder = LocalFolder::open(path)
                    .with_context(|| format!("the report storage {}", path.display()))?;
                let store = LocalFileSystem::new_with_prefix(folder.root())?
                    .with_fsync(true)
                    .with_automatic_cleanup(true);
                Backend::Local { folder, store }
            }
            StorageUrl::Bucket { bucket, prefix } => {
                let store = Arc::new(crate::bucket::open(config, bucket)?);
                Backend::S3 { store, prefix: Key::parse(prefix)? }
            }
        };
        Ok(Self { backend, limit: Limit(config.timeout), url: config.url.clone() })
    }

    /// The storage's address, without credentials.
    #[must_use]
    pub fn url(&self) -> &StorageUrl {
        &self.url
    }

    /// Stores a copy of the local `file`. Replaces an older one with the same path.
    ///
    /// If the future is dropped, the file is not stored; parts of it may stay in the bucket.
    ///
    /// # Errors
    /// [`StorageError::Other`] if `file` can't be read.
    pub async fn put_file(&self, path: &ArtifactPath, file: &Path) -> Result<Stored, StorageError> {
        let key = self.key(path);
        match &self.backend {
            Backend::Local { folder, store } => {
                self.local(folder, path, |folder, path| {
                    folder.check(path)?;
                    folder.make_folder(path)
                })
                .await?;
                let stored = upload::upload(store, self.limit, &key, file).await?;
                self.local(folder, path, LocalFolder::protect).await?;
                Ok(stored)
            }
            Backend::S3 { store, .. } => upload::upload(store, self.limit, &key, file).await,
        }
    }

    /// Reads a file, or the bytes `range` of it. The stream fails if it gets less bytes.
    ///
    /// # Errors
    /// [`StorageError::NotFound`]; [`StorageError::Other`] if `range` is empty or begins behind
    /// the file's end.
    pub async fn read(
        &self,
        path: &ArtifactPath,
        range: Option<Range<u64>>,
    ) -> Result<impl Stream<Item = Result<Bytes, StorageError>> + Send + use<>, StorageError> {
        self.check_path(path).await?;
        let options = GetOptions { range: range.map(Into::into), ..GetOptions::default() };
        let (key, limit) = (self.key(path), self.limit);
        let result = match &self.backend {
            Backend::Local { store, .. } => limit.run(store.get_opts(&key, options)).await,
            Backend::S3 { store, .. } => limit.run(store.get_opts(&key, options)).await,
        };
        let result = result.map_err(|error| named(error, path))?;
        let missing = result.range.end.saturating_sub(result.range.start);
        let chunks = (result.into_stream(), missing, path.clone());
        Ok(stream::try_unfold(chunks, move |(mut chunks, missing, path)| async move {
            let chunk = limit.run(async { chunks.try_next().await }).await?;
            // An empty chunk is the end of a local file that got shorter.
            match chunk.filter(|chunk| !chunk.is_empty()) {
                Some(chunk) => {
                    let length = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
                    let Some(missing) = missing.checked_sub(length) else {
                        return Err(StorageError::Other(format!("{path} is longer than it was")));
                    };
                    Ok(Some((chunk, (chunks, missing, path))))
                }
                None if missing == 0 => Ok(None),
                None => Err(StorageError::Other(format!("{path} ends {missing} bytes early"))),
            }
        }))
    }

    /// The size of a file; `None` if there is none.
    ///
    /// # Errors
    /// Never [`StorageError::NotFound`].
    pub async fn head(&self, path: &ArtifactPath) -> Result<Option<u64>, StorageError> {
        self.check_path(path).await?;
        let key = self.key(path);
        let head = match &self.backend {
            Backend::Local { store, .. } => self.limit.run(store.head(&key)).await,
            Backend::S3 { store, .. } => match self.limit.run(store.head(&key)).await {
                // A response to HEAD does not say whether the bucket is missing.
                Err(StorageError::NotFound(_)) => {
                    self.limit.run(store.get(&key)).await.map(|found| found.meta)
                }
                head => head,
            },
        };
        match head {
            Ok(head) => Ok(Some(head.size)),
            Err(StorageError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads a file and hashes it; `None` if there is none.
    ///
    /// # Errors
    /// Never [`StorageError::NotFound`].
    pub async fn digest(&self, path: &ArtifactPath) -> Result<Option<Stored>, StorageError> {
        let chunks = match self.read(path, None).await {
            Ok(chunks) => chunks,
            Err(StorageError::NotFound(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut digest = FileDigest::default();
        let mut chunks = std::pin::pin!(chunks);
        while let Some(chunk) = chunks.try_next().await? {
            digest.update(&chunk);
        }
        Ok(Some(digest.stored()))
    }

    /// Copies a file to the local `file`, readable by this user only. An existing one is replaced.
    ///
    /// # Errors
    /// [`StorageError::NotFound`]; [`StorageError::Full`] if the local disk is full. `file` is
    /// incomplete then.
    pub async fn download(&self, path: &ArtifactPath, file: &Path) -> Result<Stored, StorageError> {
        let mut chunks = std::pin::pin!(self.read(path, None).await?);
        let failed = |error: std::io::Error| {
            let text = format!("writing {}: {error}", file.display());
            match StorageError::from_io(&error, text.clone()) {
                StorageError::NotFound(_) => StorageError::Other(text),
                other => other,
            }
        };
        let mut options = OpenOptions::new();
        options.create(true).truncate(true).write(true).mode(0o600);
        let mut target = BufWriter::new(options.open(file).await.map_err(failed)?);
        let mut digest = FileDigest::default();
        while let Some(chunk) = chunks.try_next().await? {
            digest.update(&chunk);
            target.write_all(&chunk).await.map_err(failed)?;
        }
        target.flush().await.map_err(failed)?;
        Ok(digest.stored())
    }

    /// Deletes a file. A missing one is fine.
    ///
    /// # Errors
    /// Never [`StorageError::NotFound`].
    pub async fn delete(&self, path: &ArtifactPath) -> Result<(), StorageError> {
        self.check_path(path).await?;
        let key = self.key(path);
        let deleted = match &self.backend {
            Backend::Local { store, .. } => self.limit.run(store.delete(&key)).await,
            Backend::S3 { store, .. } => self.limit.run(store.delete(&key)).await,
        };
        match deleted {
            Err(StorageError::NotFound(_)) => Ok(()),
            deleted => deleted,
        }
    }

    /// The complete files below `prefix`, in no order. Other files are left out. In a local folder,
    /// an error comes last: what can't be read does not hide the rest.
    pub fn list(
        &self,
        prefix: Prefix,
    ) -> impl Stream<Item = Result<ListedFile, StorageError>> + Send + use<> {
        let limit = self.limit;
        let listed = match &self.backend {
            Backend::Local { folder, .. } => {
                Either::Left(local_folder::list(folder.clone(), prefix))
            }
            Backend::S3 { store, prefix: root } => {
                Either::Right(bucket::list(Arc::clone(store), root.clone(), prefix))
            }
        };
        stream::try_unfold(Box::pin(listed), move |mut listed| async move {
            let file = limit.run(async { listed.try_next().await }).await?;
            Ok(file.map(|file| (file, listed)))
        })
    }

    /// Deletes what killed uploads older than `age` left in a local folder. Returns the number of
    /// deleted files. In a bucket, a lifecycle rule does this.
    ///
    /// # Errors
    /// If a part of the folder can't be read or written. The rest is cleaned up.
    pub async fn remove_unfinished(&self, age: Duration) -> Result<u64, StorageError> {
        let Backend::Local { folder, .. } = &self.backend else { return Ok(0) };
        let folder = folder.clone();
        self.limit.run_blocking(move || folder.remove_unfinished(age)).await
    }

    /// Writes, reads and deletes a small file.
    ///
    /// # Errors
    /// As the other calls.
    pub async fn check(&self) -> Result<(), StorageError> {
        const CONTENT: Bytes = Bytes::from_static(b"passbook");
        let key = self.below_root(&format!("check-{}", Uuid::now_v7()));
        let limit = self.limit;
        let found = match &self.backend {
            Backend::Local { folder, store } => {
                let root = folder.clone();
                limit.run_blocking(move || root.check_root()).await?;
                write_and_read(store, limit, &key, CONTENT).await?
            }
            Backend::S3 { store, .. } => write_and_read(store, limit, &key, CONTENT).await?,
        };
        if found == CONTENT {
            return Ok(());
        }
        Err(StorageError::Other("a file has another content than was written".to_owned()))
    }

    /// Where a file is in the storage.
    fn key(&self, path: &ArtifactPath) -> Key {
        self.below_root(&path.to_string())
    }

    fn below_root(&self, path: &str) -> Key {
        match &self.backend {
            Backend::Local { .. } => Key::from(path),
            Backend::S3 { prefix, .. } if prefix.as_ref().is_empty() => Key::from(path),
            Backend::S3 { prefix, .. } => Key::from(format!("{prefix}/{path}")),
        }
    }

    /// Refuses symbolic links in a local folder.
    async fn check_path(&self, path: &ArtifactPath) -> Result<(), StorageError> {
        match &self.backend {
            Backend::Local { folder, .. } => self.local(folder, path, LocalFolder::check).await,
            Backend::S3 { .. } => Ok(()),
        }
    }

    async fn local(
        &self,
        folder: &LocalFolder,
        path: &ArtifactPath,
        step: impl FnOnce(&LocalFolder, &ArtifactPath) -> Result<(), StorageError> + Send + 'static,
    ) -> Result<(), StorageError> {
        let (folder, path) = (folder.clone(), path.clone());
        self.limit.run_blocking(move || step(&folder, &path)).await
    }
}

/// An error about `path` names `path`, and not the folder or bucket around it.
fn named(error: StorageError, path: &ArtifactPath) -> StorageError {
    match error {
        StorageError::NotFound(_) => StorageError::NotFound(path.to_string()),
        error => error,
    }
}

async fn write_and_read<S: ObjectStore>(
    store: &S,
    limit: Limit,
    key: &Key,
    content: Bytes,
) -> Result<Bytes, StorageError> {
    limit.run(store.put(key, content.into())).await?;
    let found = limit.run(async { store.get(key).await?.bytes().await }).await;
    limit.run(store.delete(key)).await?;
    found
}
