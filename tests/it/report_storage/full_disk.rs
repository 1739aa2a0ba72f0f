//! A local folder on a full disk of 18 MB.

use std::{fs, process::Command};

use artifacts::{ArtifactStore, StorageError};
use tests::stack::folder;

use super::{config, content, file, new_path, stored};

const MIB: usize = 1024 * 1024;

/// Set in the process that sees the disk.
const DISK: &str = "PASSBOOK_TESTS_DISK";

#[tokio::test]
async fn a_file_that_does_not_fit_is_an_error_and_leaves_nothing() {
    let Some(disk) = std::env::var_os(DISK) else { return on_a_small_disk() };
    let root = std::path::PathBuf::from(disk).join("reports");
    let url = format!("file://{}", root.display());
    let store = ArtifactStore::open(&config(&["--report-storage-url", &url])).unwrap();
    let (first, second) = (new_path("a.csv"), new_path("b.csv"));
    store.put_file(&first, &file(&content(12 * MIB))).await.unwrap();
    // In parts, and in one request.
    for length in [12 * MIB, 8 * MIB] {
        let error = store.put_file(&second, &file(&content(length))).await.unwrap_err();
        assert!(matches!(error, StorageError::Full(_)), "{error:?}");
        assert_eq!(store.head(&second).await.unwrap(), None);
    }
    // The space of the failed upload is free again.
    let fits = content(5 * MIB);
    tests::eventually("the space is free", std::time::Duration::from_secs(5), async || {
        store.put_file(&second, &file(&fits)).await.ok()
    })
    .await;
    let ballast = root.parent().unwrap().join("ballast");
    fs::write(&ballast, content(20 * MIB)).unwrap_err();
    let error = store.check().await.unwrap_err();
    assert!(matches!(error, StorageError::Full(_)), "{error:?}");
    assert_eq!(store.digest(&second).await.unwrap(), Some(stored(&fits)));

    // A deletion makes room.
    fs::remove_file(&ballast).unwrap();
    store.delete(&first).await.unwrap();
    store.put_file(&first, &file(&content(11 * MIB))).await.unwrap();
    store.check().await.unwrap();
}

/// Runs this test again in a mount namespace with a small disk, if this user may mount one.
fn on_a_small_disk() {
    let disk = folder("small-storage");
    let mount = format!("mount -t tmpfs -o size=18m passbook {}", disk.display());
    let unshare = |command: &str| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "sh", "-c", &format!("{mount} && {command}")]);
        unshare
    };
    if !unshare("true").output().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: this user may not mount a disk");
        return;
    }
    let name = "report_storage::full_disk::a_file_that_does_not_fit_is_an_error_and_leaves_nothing";
    let mut test = unshare(&format!("exec \"$PASSBOOK_TESTS_BINARY\" --exact {name} --nocapture"));
    test.env("PASSBOOK_TESTS_BINARY", std::env::current_exe().unwrap()).env(DISK, &disk);
    let output = test.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && printed.contains("1 passed"),
        "{printed}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
