//! Settings of another system in the environment of a development stack.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tests::{client::new_key, eventually, stack::folder};

use super::{
    own_replica::settings,
    setup::{Setup, limit},
};

/// A file of a report that the stack's database does not know. It is old enough for the clean-up.
fn old_file(storage: &Path) -> PathBuf {
    let folder = storage.join(new_key()).join("1");
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("statement.csv");
    let file = File::create(&path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
    path
}

#[tokio::test]
async fn a_stack_deletes_no_file_of_the_storage_that_its_caller_has_exported() {
    let foreign = folder("foreign-storage");
    let theirs = old_file(&foreign);
    let storage = format!("PASSBOOK_REPORT_STORAGE_URL=file://{}", foreign.display());
    let region = "PASSBOOK_REPORT_S3_REGION=eu-central-1";
    let more = [storage.as_str(), region, "PASSBOOK_REPORT_CLEANUP_EVERY=1s"];
    let setup = Setup::start("report-foreign-settings", 1, 0, &more).await;

    let report = setup.ask().await;
    let ended = setup.ended(&report).await;
    assert_eq!(ended.text("state"), "SUCCEEDED", "{ended:?}");
    assert_eq!(setup.files(&report).len(), 1, "the file is in the other storage");
    let settings = settings(&setup.stack, "report-service");
    assert!(settings.iter().all(|(name, _)| !name.starts_with("PASSBOOK_REPORT_S3_")));
    // After a whole round of the clean-up.
    let own = old_file(&setup.stack.dir.join("artifacts"));
    eventually("the stack's own orphan is deleted", limit(), || async {
        (!own.exists()).then_some(())
    })
    .await;
    assert!(theirs.exists(), "a file of another system was deleted");
    fs::remove_dir_all(&foreign).unwrap();
}
