//! The storage in a local folder.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    time::Duration,
};

use artifacts::{ArtifactPath, ArtifactStore, Prefix, StorageConfig, StorageError, Stored};
use bytes::Bytes;
use clap::Parser;
use futures::{StreamExt, TryStreamExt};
use sha2::{Digest, Sha256};
use uuid::Uuid;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    storage: StorageConfig,
}

/// A folder that disappears with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder =
            std::env::temp_dir().join(format!("passbook-artifacts-{name}-{}", Uuid::now_v7()));
        fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn root(&self) -> PathBuf {
        self.0.join("reports")
    }

    fn open(&self) -> ArtifactStore {
        open(&self.root())
    }

    /// A file beside the storage.
    fn file(&self, content: &[u8]) -> PathBuf {
        let file = self.0.join(format!("file-{}", Uuid::now_v7()));
        fs::write(&file, content).unwrap();
        file
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn open(root: &Path) -> ArtifactStore {
    let url = format!("file://{}", root.display());
    let command = Command::parse_from(["x", "--report-storage-url", &url]);
    ArtifactStore::open(&command.storage).unwrap()
}

fn path(attempt: u32, name: &str) -> ArtifactPath {
    ArtifactPath::new(Uuid::from_u128(7), attempt, name).unwrap()
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| u8::try_from(i % 251).unwrap()).collect()
}

fn stored(content: &[u8]) -> Stored {
    Stored { size: u64::try_from(content.len()).unwrap(), sha256: Sha256::digest(content).into() }
}

async fn read(
    store: &ArtifactStore,
    path: &ArtifactPath,
    range: Option<std::ops::Range<u64>>,
) -> Result<Vec<u8>, StorageError> {
    let chunks: Vec<Bytes> = store.read(path, range).await?.try_collect().await?;
    Ok(chunks.concat())
}

fn all_files(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(all_files(&path));
        } else {
            files.push(path.display().to_string());
        }
    }
    files
}

#[tokio::test]
async fn a_file_is_read_back_as_it_was_stored() {
    let folder = Folder::new("round-trip");
    let store = folder.open();
    // Empty, small, at the limit of one request, and of many parts.
    for (attempt, length) in (1..).zip([0, 1, 8 << 20, (8 << 20) + 1, 20 << 20, (20 << 20) + 17]) {
        let content = pattern(length);
        let path = path(attempt, "statement.pdf");
        let file = folder.file(&content);
        assert_eq!(store.put_file(&path, &file).await.unwrap(), stored(&content));
        assert_eq!(store.head(&path).await.unwrap(), Some(stored(&content).size));
        assert_eq!(store.digest(&path).await.unwrap(), Some(stored(&content)));
        assert!(read(&store, &path, None).await.unwrap() == content, "{length}");
        let copy = folder.0.join("copy");
        assert_eq!(store.download(&path, &copy).await.unwrap(), stored(&content));
        assert!(fs::read(&copy).unwrap() == content, "{length}");
    }
}

#[tokio::test]
async fn a_range_is_half_open_and_cut_at_the_end() {
    let folder = Folder::new("range");
    let store = folder.open();
    let (path, content) = (path(1, "a.csv"), pattern(100_000));
    store.put_file(&path, &folder.file(&content)).await.unwrap();
    for (range, expected) in [
        (0..1, &content[..1]),
        (99_999..100_000, &content[99_999..]),
        (10_000..60_000, &content[10_000..60_000]),
        (99_990..200_000, &content[99_990..]),
    ] {
        assert!(read(&store, &path, Some(range.clone())).await.unwrap() == expected, "{range:?}");
    }
    for range in [100_000..100_001, 5..5] {
        let error = read(&store, &path, Some(range.clone())).await.unwrap_err();
        assert!(matches!(error, StorageError::Other(_)), "{range:?}: {error}");
    }
}

#[tokio::test]
async fn a_missing_file_is_told_from_a_missing_storage() {
    let folder = Folder::new("missing");
    let store = folder.open();
    let path = path(1, "a.csv");
    assert_eq!(store.head(&path).await.unwrap(), None);
    assert_eq!(store.digest(&path).await.unwrap(), None);
    assert!(matches!(read(&store, &path, None).await, Err(StorageError::NotFound(_))));
    store.delete(&path).await.unwrap();

    let file = folder.file(b"content");
    fs::rename(folder.root(), folder.0.join("away")).unwrap();
    let errors = [
        store.head(&path).await.unwrap_err(),
        store.put_file(&path, &file).await.unwrap_err(),
        store.delete(&path).await.unwrap_err(),
        store.list(Prefix::All).try_collect::<Vec<_>>().await.unwrap_err(),
        store.check().await.unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, StorageError::Unavailable(_)), "{error:?}");
    }
    assert!(!folder.root().exists(), "the storage was made anew");

    fs::rename(folder.0.join("away"), folder.root()).unwrap();
    store.check().await.unwrap();
    store.put_file(&path, &file).await.unwrap();
}

#[tokio::test]
async fn only_this_user_may_read_the_files() {
    let folder = Folder::new("permissions");
    let store = folder.open();
    let path = path(1, "a.csv");
    store.put_file(&path, &folder.file(b"content")).await.unwrap();
    let file = folder.root().join(path.to_string());
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&file), 0o600);
    for part in file.ancestors().skip(1).take(3) {
        assert_eq!(mode(part), 0o700, "{}", part.display());
    }
    let copy = folder.0.join("copy");
    store.download(&path, &copy).await.unwrap();
    assert_eq!(mode(&copy), 0o600);
}

#[tokio::test]
async fn symbolic_links_do_not_lead_out_of_the_folder() {
    let folder = Folder::new("links");
    let store = folder.open();
    let secret = folder.file(b"secret");
    let (file, attempt) = (path(1, "a.csv"), path(2, "a.csv"));
    store.put_file(&file, &folder.file(b"content")).await.unwrap();
    let target = folder.root().join(file.to_string());
    fs::remove_file(&target).unwrap();
    symlink(&secret, &target).unwrap();
    let outside = folder.0.join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("a.csv"), "secret").unwrap();
    symlink(&outside, target.parent().unwrap().parent().unwrap().join("2")).unwrap();
    for path in [&file, &attempt] {
        let new = folder.file(b"new");
        let errors = [
            read(&store, path, None).await.unwrap_err(),
            store.head(path).await.unwrap_err(),
            store.put_file(path, &new).await.unwrap_err(),
            store.delete(path).await.unwrap_err(),
        ];
        for error in errors {
            assert!(error.to_string().contains("symbolic link"), "{error}");
        }
    }
    let listed: Vec<_> = store.list(Prefix::All).try_collect().await.unwrap();
    assert_eq!(listed, []);
    assert_eq!(fs::read(&secret).unwrap(), b"secret");
    assert_eq!(fs::read(outside.join("a.csv")).unwrap(), b"secret");
}

#[tokio::test]
async fn a_listing_has_the_complete_files_below_its_prefix() {
    let folder = Folder::new("list");
    let store = folder.open();
    let other = ArtifactPath::new(Uuid::from_u128(8), 1, "a.csv").unwrap();
    let paths = [path(1, "a.csv"), path(1, "b.pdf"), path(2, "a.csv"), path(12, "a.csv"), other];
    for path in &paths {
        store.put_file(path, &folder.file(b"content")).await.unwrap();
    }
    let root = folder.root();
    for stray in ["stray", "00000000-0000-0000-0000-000000000007/1/c.csv#1"] {
        fs::write(root.join(stray), "stray").unwrap();
    }
    for (prefix, expected) in [
        (Prefix::All, &paths[..]),
        (Prefix::Attempt(Uuid::from_u128(7), 1), &paths[..2]),
        (Prefix::Attempt(Uuid::from_u128(7), 3), &[]),
    ] {
        let mut listed: Vec<_> = store.list(prefix).try_collect().await.unwrap();
        listed.sort_by(|one, other| one.path.cmp(&other.path));
        assert!(listed.iter().all(|file| file.size == 7));
        let age = |file: &artifacts::ListedFile| time::OffsetDateTime::now_utc() - file.modified;
        assert!(listed.iter().all(|file| age(file).abs() < time::Duration::minutes(1)));
        let listed: Vec<_> = listed.into_iter().map(|file| file.path).collect();
        let mut expected = expected.to_vec();
        expected.sort();
        assert_eq!(listed, expected, "{prefix:?}");
    }
}

#[tokio::test]
async fn deleted_files_leave_no_folders() {
    let folder = Folder::new("delete");
    let store = folder.open();
    let paths = [path(1, "a.csv"), path(1, "b.csv")];
    for path in &paths {
        store.put_file(path, &folder.file(b"content")).await.unwrap();
    }
    store.delete(&paths[0]).await.unwrap();
    assert_eq!(store.head(&paths[1]).await.unwrap(), Some(7));
    store.delete(&paths[1]).await.unwrap();
    assert_eq!(fs::read_dir(folder.root()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_dropped_upload_leaves_nothing_and_a_killed_one_is_removed_by_its_age() {
    let folder = Folder::new("unfinished");
    let store = folder.open();
    let (path, big) = (path(1, "a.csv"), folder.file(&pattern(20 << 20)));
    let upload = store.put_file(&path, &big);
    // Long enough for the first parts, too short for all.
    assert!(tokio::time::timeout(Duration::from_millis(1), upload).await.is_err());
    assert_eq!(store.head(&path).await.unwrap(), None);

    store.put_file(&path, &folder.file(b"content")).await.unwrap();
    let file = folder.root().join(path.to_string());
    let (killed, running) = (file.with_file_name("a.csv#1"), file.with_file_name("a.csv#2"));
    for (file, age) in [(&killed, 7200), (&running, 60), (&file, 7200)] {
        let file = fs::OpenOptions::new().create(true).append(true).open(file).unwrap();
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(age)).unwrap();
    }
    assert_eq!(store.remove_unfinished(Duration::from_secs(3600)).await.unwrap(), 1);
    assert!(!killed.exists() && running.exists() && file.exists());
}

/// A path beyond the system's limit can't be read, not even by root.
#[tokio::test]
async fn a_folder_that_can_not_be_read_keeps_no_other_file() {
    let folder = Folder::new("unreadable");
    let mut root = folder.0.clone();
    while root.as_os_str().len() < 3850 {
        root.push("x".repeat(100));
    }
    let store = open(&root);
    let (orphan, is_old) = (folder.file(b"content"), Duration::from_secs(3600));
    let put = async |report: u128| {
        let path = ArtifactPath::new(Uuid::from_u128(report), 1, "a.csv").unwrap();
        store.put_file(&path, &orphan).await.unwrap();
        let unfinished = root.join(path.to_string()).with_file_name("a.csv#1");
        let file = fs::File::create(&unfinished).unwrap();
        file.set_modified(std::time::SystemTime::now() - 2 * is_old).unwrap();
        (path, unfinished)
    };
    let mut files = vec![put(1).await, put(2).await];
    let made = std::process::Command::new("mkdir").arg("x".repeat(255)).current_dir(&root).status();
    assert!(made.unwrap().success());
    files.extend([put(3).await, put(4).await]);

    let mut listed: Vec<_> = store.list(Prefix::All).collect().await;
    assert!(matches!(listed.pop(), Some(Err(_))), "{listed:?}");
    let mut listed: Vec<_> = listed.into_iter().map(|file| file.unwrap().path).collect();
    listed.sort();
    assert_eq!(listed, files.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>());
    store.remove_unfinished(is_old).await.unwrap_err();
    assert!(files.iter().all(|(_, unfinished)| !unfinished.exists()));
}

#[tokio::test]
async fn a_replaced_file_is_never_seen_half_written() {
    let folder = Folder::new("replace");
    let store = folder.open();
    let path = path(1, "a.csv");
    let contents = [vec![b'a'; 9 << 20], vec![b'b'; 10 << 20]];
    store.put_file(&path, &folder.file(&contents[0])).await.unwrap();
    let (writer, file, written) = (store.clone(), folder.file(&contents[1]), path.clone());
    let writing = tokio::spawn(async move { writer.put_file(&written, &file).await });
    let expected = contents.map(|content| stored(&content));
    while !writing.is_finished() {
        let seen = store.digest(&path).await.unwrap().unwrap();
        assert!(expected.contains(&seen), "{seen:?}");
    }
    writing.await.unwrap().unwrap();
    assert_eq!(store.digest(&path).await.unwrap(), Some(expected[1]));
}

#[tokio::test]
async fn a_file_cut_short_is_an_error_and_no_shorter_file() {
    let folder = Folder::new("cut");
    let store = folder.open();
    let path = path(1, "a.csv");
    store.put_file(&path, &folder.file(&pattern(1 << 20))).await.unwrap();
    let mut chunks = Box::pin(store.read(&path, None).await.unwrap());
    chunks.try_next().await.unwrap().unwrap();
    let file = fs::OpenOptions::new().write(true).open(folder.root().join(path.to_string()));
    file.unwrap().set_len(1 << 19).unwrap();
    let error = chunks.try_collect::<Vec<_>>().await.unwrap_err();
    assert!(error.to_string().contains("early"), "{error}");
}

#[tokio::test]
async fn the_check_leaves_nothing() {
    let folder = Folder::new("check");
    let store = folder.open();
    store.check().await.unwrap();
    assert_eq!(all_files(&folder.root()), Vec::<String>::new());
    // The folder is not emptied into nothing by the last deletion.
    assert_eq!(folder.root().metadata().unwrap().nlink(), 2);
}

#[test]
fn a_storage_that_is_no_folder_is_an_error_at_the_start() {
    let folder = Folder::new("no-folder");
    fs::write(folder.root(), "a file").unwrap();
    let url = format!("file://{}", folder.root().display());
    let command = Command::parse_from(["x", "--report-storage-url", &url]);
    let error = format!("{:#}", ArtifactStore::open(&command.storage).unwrap_err());
    assert!(error.contains("reports"), "{error}");
}
