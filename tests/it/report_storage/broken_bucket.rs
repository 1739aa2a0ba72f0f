//! A server that is killed, silent, or fails single requests.

use std::time::{Duration, Instant};

use artifacts::{ArtifactPath, ArtifactStore, StorageError};
use axum::http::StatusCode;
use futures::TryStreamExt;
use tests::{eventually, seaweedfs::SeaweedFs};

use super::{
    bucket::expect_errors, content, faulty_proxy::FaultyProxy, file, new_path, open, shared, stored,
};

const MIB: usize = 1024 * 1024;

/// The longest time for one call with a limit of three seconds for a request: a request, its
/// repetition, and the abort of an upload. The rest is for a slow machine.
const CALL: Duration = Duration::from_secs(12);

#[tokio::test]
async fn a_server_killed_during_an_upload_leaves_no_file() {
    let mut server = SeaweedFs::start("storage-killed").await;
    server.make_bucket("reports").await;
    // The proxy holds the third part, so that the server is killed in the middle.
    let proxy = FaultyProxy::start(server.endpoint()).await;
    proxy.answer("partNumber=3", None);
    let store = open("s3://reports", &proxy.endpoint());
    let (path, content) = (new_path("a.csv"), content(20 * MIB));
    let big = file(&content);
    let upload = async { store.put_file(&path, &big).await };
    let kill = async {
        eventually("part 3 is sent", CALL, async || (proxy.hits() > 0).then_some(())).await;
        server.kill();
    };
    let (error, ()) = tokio::join!(upload, kill);
    let error = error.unwrap_err();
    assert!(matches!(error, StorageError::Unavailable(_)), "{error:?}");
    expect_errors(&store, |error| matches!(error, StorageError::Unavailable(_))).await;

    server.start_again().await;
    proxy.heal();
    let store = open("s3://reports", &server.endpoint());
    assert_eq!(eventually_head(&store, &path).await, None);
    assert_eq!(store.put_file(&path, &big).await.unwrap(), stored(&content));
    assert_eq!(store.digest(&path).await.unwrap(), Some(stored(&content)));
}

/// The size of a file once the server answers again.
async fn eventually_head(store: &ArtifactStore, path: &ArtifactPath) -> Option<u64> {
    eventually("the bucket answers", Duration::from_secs(30), async || store.head(path).await.ok())
        .await
}

#[tokio::test]
async fn each_call_to_a_silent_server_ends_within_its_limit() {
    let server = SeaweedFs::start("storage-silent").await;
    server.make_bucket("reports").await;
    let store = open("s3://reports", &server.endpoint());
    let (path, content) = (new_path("a.csv"), content(30 * MIB));
    let big = file(&content);
    store.put_file(&path, &big).await.unwrap();
    let mut chunks = Box::pin(store.read(&path, None).await.unwrap());
    chunks.try_next().await.unwrap().unwrap();

    let paused = server.pause();
    let unavailable = |error: &StorageError| matches!(error, StorageError::Unavailable(_));
    let began = Instant::now();
    let error = chunks.try_collect::<Vec<_>>().await.unwrap_err();
    assert!(unavailable(&error), "{error:?}");
    assert!(began.elapsed() < CALL, "{:?}", began.elapsed());
    let began = Instant::now();
    let error = store.put_file(&path, &big).await.unwrap_err();
    assert!(unavailable(&error), "{error:?}");
    assert!(began.elapsed() < CALL, "{:?}", began.elapsed());
    for what in ["head", "read"] {
        let began = Instant::now();
        let error = match what {
            "head" => store.head(&path).await.unwrap_err(),
            _ => store.digest(&path).await.unwrap_err(),
        };
        assert!(unavailable(&error), "{what}: {error:?}");
        assert!(began.elapsed() < CALL, "{what}: {:?}", began.elapsed());
    }

    drop(paused);
    assert_eq!(eventually_head(&store, &path).await, Some(stored(&content).size));
    assert_eq!(store.digest(&path).await.unwrap(), Some(stored(&content)));
}

#[tokio::test]
async fn a_failed_upload_is_aborted_and_its_parts_are_deleted() {
    let server = shared().await;
    server.make_bucket("aborted").await;
    let proxy = FaultyProxy::start(server.endpoint()).await;
    let store = open("s3://aborted", &proxy.endpoint());
    let (path, content) = (new_path("a.csv"), content(20 * MIB));
    proxy.answer("partNumber=3", Some(StatusCode::INTERNAL_SERVER_ERROR));
    let error = store.put_file(&path, &file(&content)).await.unwrap_err();
    assert!(matches!(error, StorageError::Unavailable(_)), "{error:?}");
    assert_eq!(proxy.hits(), 3, "one request and two more");
    assert_eq!(store.head(&path).await.unwrap(), None);
    assert_eq!(server.uploads("aborted").await, Vec::<String>::new());
}

#[tokio::test]
async fn a_short_failure_of_the_server_is_not_seen() {
    let proxy = FaultyProxy::start(shared().await.endpoint()).await;
    let store = open("s3://reports", &proxy.endpoint());
    let (path, content) = (new_path("a.csv"), content(20 * MIB));
    proxy.answer_once("partNumber=2", StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(store.put_file(&path, &file(&content)).await.unwrap(), stored(&content));
    assert_eq!(proxy.hits(), 1);
    assert_eq!(store.digest(&path).await.unwrap(), Some(stored(&content)));
}

#[tokio::test]
async fn a_full_bucket_is_told_from_an_unavailable_one() {
    let proxy = FaultyProxy::start(shared().await.endpoint()).await;
    let store = open("s3://reports", &proxy.endpoint());
    proxy.answer("a.csv", Some(StatusCode::INSUFFICIENT_STORAGE));
    for length in [7, 9 * MIB] {
        let error = store.put_file(&new_path("a.csv"), &file(&content(length))).await.unwrap_err();
        assert!(matches!(error, StorageError::Full(_)), "{error:?}");
    }
    assert_eq!(proxy.hits(), 2, "no second try");
}
