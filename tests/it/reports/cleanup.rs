//! A file that can't be deleted.

use std::{
    fs::{self, File},
    time::{Duration, SystemTime},
};

use tests::{client::new_key, eventually};

use super::setup::{Setup, limit};

#[tokio::test]
async fn a_file_that_can_not_be_deleted_keeps_no_other_file() {
    let setup =
        Setup::start("report-undeletable", 1, 0, &["PASSBOOK_REPORT_CLEANUP_EVERY=1s"]).await;
    let storage = setup.stack.dir.join("artifacts");
    let (stuck, expired) = (setup.ask().await, setup.ask().await);
    for report in [&stuck, &expired] {
        assert_eq!(setup.ended(report).await.text("state"), "SUCCEEDED");
    }
    // A folder in the place of a file: of an expired one, and of an unfinished one.
    let file = storage.join(&stuck).join(&setup.files(&stuck)[0]);
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    let old = |path: &std::path::Path| {
        let file = File::open(path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
    };
    let unfinished = file.with_file_name("statement.csv#1");
    fs::create_dir(&unfinished).unwrap();
    old(&unfinished);
    // The next round finds all of these, and the one that can't be deleted first.
    let folder = storage.join(new_key()).join("1");
    fs::create_dir_all(&folder).unwrap();
    let (orphan, upload) = (folder.join("statement.csv"), folder.join("statement.csv#2"));
    for path in [&orphan, &upload] {
        File::create(path).unwrap();
        old(path);
    }
    // With a fence, and of an earlier release.
    let scratch = ["1-0123456789abcd", "1"].map(|attempt| {
        let scratch = setup.stack.dir.join("scratch").join(format!("{expired}-{attempt}"));
        fs::create_dir_all(&scratch).unwrap();
        scratch
    });
    sqlx::query(
        "UPDATE report_artifacts SET expires_at = clock_timestamp()
             - CASE WHEN report_id::text = $1 THEN interval '1 hour' ELSE interval '0' END",
    )
    .bind(&stuck)
    .execute(&setup.reports)
    .await
    .unwrap();

    eventually("the other expired file is deleted", limit(), || async {
        setup.files(&expired).is_empty().then_some(())
    })
    .await;
    for path in [&orphan, &upload, &scratch[0], &scratch[1]] {
        eventually(&format!("{} is deleted", path.display()), limit(), || async {
            (!path.exists()).then_some(())
        })
        .await;
    }
    let open = "report_artifacts WHERE deleted_at IS NULL";
    assert_eq!(setup.count(open).await, 1, "the file that can't be deleted is tried again");
    // It is deleted once it can be.
    fs::remove_dir(&file).unwrap();
    eventually("the row is marked", limit(), || async {
        (setup.count(open).await == 0).then_some(())
    })
    .await;
}
