//! A bucket that works, and one that is not there.

use artifacts::{ArtifactPath, ArtifactStore, Prefix, StorageError};
use futures::TryStreamExt;
use tests::seaweedfs::SECRET_KEY;
use uuid::Uuid;

use super::{bucket_arguments, config, content, file, new_path, open, read, shared, stored};

const MIB: usize = 1024 * 1024;

#[tokio::test]
async fn a_file_is_read_back_from_the_bucket_as_it_was_stored() {
    let endpoint = shared().await.endpoint();
    for url in ["s3://reports", "s3://reports/some/prefix"] {
        let store = open(url, &endpoint);
        // Empty, small, at the limit of one request, and of several parts.
        for length in [0, 1, 8 * MIB, 8 * MIB + 1, 20 * MIB] {
            let (path, content) = (new_path("statement.pdf"), content(length));
            assert_eq!(store.head(&path).await.unwrap(), None);
            let put = store.put_file(&path, &file(&content)).await.unwrap();
            assert_eq!(put, stored(&content), "{length}");
            assert_eq!(store.head(&path).await.unwrap(), Some(put.size));
            assert_eq!(store.digest(&path).await.unwrap(), Some(put));
            let copy = file(b"");
            assert_eq!(store.download(&path, &copy).await.unwrap(), put);
            assert!(std::fs::read(copy).unwrap() == content, "{length}");

            store.delete(&path).await.unwrap();
            store.delete(&path).await.unwrap();
            assert_eq!(store.head(&path).await.unwrap(), None);
            assert_eq!(store.digest(&path).await.unwrap(), None);
            let missing = read(&store, &path, None).await;
            assert!(matches!(missing, Err(StorageError::NotFound(_))), "{missing:?}");
        }
        store.check().await.unwrap();
    }
}

#[tokio::test]
async fn a_range_of_a_file_in_the_bucket_is_read_alone() {
    let store = open("s3://reports", &shared().await.endpoint());
    let (path, content) = (new_path("entries.csv"), content(12 * MIB));
    store.put_file(&path, &file(&content)).await.unwrap();
    let end = content.len();
    for range in [0..1, end - 1..end, 3 * MIB..9 * MIB + 1, end - 10..end + 10] {
        let expected = &content[range.start..range.end.min(end)];
        let range = u64::try_from(range.start).unwrap()..u64::try_from(range.end).unwrap();
        assert!(read(&store, &path, Some(range.clone())).await.unwrap() == expected, "{range:?}");
    }
    let behind = stored(&content).size;
    let error = read(&store, &path, Some(behind..behind + 1)).await.unwrap_err();
    assert!(matches!(error, StorageError::Other(_)), "{error:?}");
}

#[tokio::test]
async fn a_listing_of_the_bucket_has_the_files_below_its_prefix() {
    let store = open("s3://reports/listed", &shared().await.endpoint());
    let (one, other) = (Uuid::now_v7(), Uuid::now_v7());
    let path = |report, attempt, name| ArtifactPath::new(report, attempt, name).unwrap();
    let paths = [
        path(one, 1, "a.csv"),
        path(one, 1, "b.pdf"),
        path(one, 12, "a.csv"),
        path(other, 1, "a.csv"),
    ];
    for path in &paths {
        store.put_file(path, &file(b"content")).await.unwrap();
    }
    // Files of others in the same bucket.
    let outside = open("s3://reports", &shared().await.endpoint());
    outside.put_file(&new_path("a.csv"), &file(b"content")).await.unwrap();
    let within = open("s3://reports/listed/more", &shared().await.endpoint());
    within.put_file(&new_path("a.csv"), &file(b"content")).await.unwrap();
    for (prefix, expected) in [
        (Prefix::All, &paths[..]),
        (Prefix::Attempt(one, 1), &paths[..2]),
        (Prefix::Attempt(one, 2), &[]),
    ] {
        let listed: Vec<_> = store.list(prefix).try_collect().await.unwrap();
        assert!(listed.iter().all(|file| file.size == 7));
        let mut listed: Vec<_> = listed.into_iter().map(|file| file.path).collect();
        listed.sort();
        let mut expected = expected.to_vec();
        expected.sort();
        assert_eq!(listed, expected, "{prefix:?}");
    }
}

#[tokio::test]
async fn a_missing_bucket_is_no_missing_file() {
    let store = open("s3://no-such-bucket", &shared().await.endpoint());
    expect_errors(&store, |error| matches!(error, StorageError::Other(_))).await;
}

#[tokio::test]
async fn wrong_credentials_are_an_error_that_no_later_try_repairs() {
    let endpoint = shared().await.endpoint();
    let mut arguments = bucket_arguments("s3://reports", &endpoint, "another secret");
    arguments.push("--report-s3-allow-http");
    let store = ArtifactStore::open(&config(&arguments)).unwrap();
    expect_errors(&store, |error| matches!(error, StorageError::Other(_))).await;
}

#[test]
fn an_endpoint_without_tls_must_be_allowed() {
    let arguments = bucket_arguments("s3://reports", "http://127.0.0.1:1", SECRET_KEY);
    let error = ArtifactStore::open(&config(&arguments)).unwrap_err().to_string();
    assert!(error.contains("PASSBOOK_REPORT_S3_ALLOW_HTTP"), "{error}");
}

/// Checks the error of each call.
pub(super) async fn expect_errors(store: &ArtifactStore, expected: impl Fn(&StorageError) -> bool) {
    let path = new_path("a.csv");
    for (call, error) in [
        ("put_file", store.put_file(&path, &file(b"content")).await.unwrap_err()),
        ("put_file, in parts", store.put_file(&path, &file(&content(9 * MIB))).await.unwrap_err()),
        ("head", store.head(&path).await.unwrap_err()),
        ("read", read(store, &path, None).await.unwrap_err()),
        ("digest", store.digest(&path).await.unwrap_err()),
        ("delete", store.delete(&path).await.unwrap_err()),
        ("list", store.list(Prefix::All).try_collect::<Vec<_>>().await.unwrap_err()),
        ("check", store.check().await.unwrap_err()),
    ] {
        assert!(expected(&error), "{call}: {error:?}");
    }
}
