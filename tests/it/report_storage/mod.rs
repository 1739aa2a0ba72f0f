//! The storage of the reports' files: a bucket of a real S3-compatible server, and a full disk.

mod broken_bucket;
mod bucket;
mod faulty_proxy;
mod full_disk;
mod tls;

use std::{fs, ops::Range, path::PathBuf};

use artifacts::{ArtifactPath, ArtifactStore, StorageConfig, StorageError, Stored};
use clap::Parser;
use futures::TryStreamExt;
use sha2::{Digest, Sha256};
use tests::{
    seaweedfs::{ACCESS_KEY, SECRET_KEY, SeaweedFs},
    stack::folder,
};
use tokio::sync::OnceCell;
use uuid::Uuid;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    storage: StorageConfig,
}

fn config(arguments: &[&str]) -> StorageConfig {
    Command::parse_from([&["storage"], arguments].concat()).storage
}

/// The arguments for a bucket at `endpoint`.
fn bucket_arguments<'a>(url: &'a str, endpoint: &'a str, secret: &'a str) -> Vec<&'a str> {
    vec![
        "--report-storage-url",
        url,
        "--report-s3-endpoint",
        endpoint,
        "--report-s3-access-key-id",
        ACCESS_KEY,
        "--report-s3-secret-access-key",
        secret,
    ]
}

/// A bucket at `endpoint`, with a limit of three seconds for a request.
fn open(url: &str, endpoint: &str) -> ArtifactStore {
    let mut arguments = bucket_arguments(url, endpoint, SECRET_KEY);
    arguments.extend(["--report-s3-allow-http", "--report-storage-timeout", "3s"]);
    ArtifactStore::open(&config(&arguments)).unwrap()
}

/// The server shared by the tests that do no harm, with the bucket `reports`.
async fn shared() -> &'static SeaweedFs {
    static SHARED: OnceCell<SeaweedFs> = OnceCell::const_new();
    SHARED
        .get_or_init(|| async {
            let server = SeaweedFs::start("storage").await;
            server.make_bucket("reports").await;
            server
        })
        .await
}

fn new_path(name: &str) -> ArtifactPath {
    ArtifactPath::new(Uuid::now_v7(), 1, name).unwrap()
}

/// Bytes without a short period, so that parts in a wrong order are seen.
fn content(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    })
    .take(length)
    .collect()
}

fn stored(content: &[u8]) -> Stored {
    let size = u64::try_from(content.len()).unwrap();
    Stored { size, sha256: Sha256::digest(content).into() }
}

/// A local file.
fn file(content: &[u8]) -> PathBuf {
    let file = folder("storage-files").join(Uuid::now_v7().to_string());
    fs::write(&file, content).unwrap();
    file
}

async fn read(
    store: &ArtifactStore,
    path: &ArtifactPath,
    range: Option<Range<u64>>,
) -> Result<Vec<u8>, StorageError> {
    let chunks: Vec<_> = store.read(path, range).await?.try_collect().await?;
    Ok(chunks.concat())
}
