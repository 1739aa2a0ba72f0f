//! The object storage is away or full while a report is made.

use std::fs;

use serde_json::json;
use tests::{client::new_key, eventually};

use super::{
    renderer::{AT_ONCE, Answer},
    setup::{Setup, errors, limit, outcomes},
};

#[tokio::test]
async fn a_report_waits_for_a_storage_that_is_away() {
    let setup = Setup::start("storage-away", 1, 0, &[]).await;
    let (storage, away) = (setup.stack.dir.join("artifacts"), setup.stack.dir.join("away"));
    {
        let (storage, away) = (storage.clone(), away.clone());
        setup.renderer.answer(move |call| {
            match call.attempt {
                1 => fs::rename(&storage, &away).unwrap(),
                3 => fs::rename(&away, &storage).unwrap(),
                _ => {}
            }
            AT_ONCE
        });
    }
    let report = setup.ask().await;
    let ended = setup.ended(&report).await;
    assert_eq!(ended.text("state"), "SUCCEEDED", "{ended:?}");
    assert_eq!(outcomes(&ended), ["FAILED", "FAILED", "SUCCEEDED"]);
    for error in &errors(&ended)[..2] {
        assert!(error.as_str().unwrap().contains("the storage is unavailable"), "{error}");
    }
    assert_eq!(setup.csv(&report).await, format!("{report}/3.csv"));
    assert_eq!(setup.files(&report).len(), 1);

    // Away for good: five attempts, one alert.
    fs::rename(&storage, &away).unwrap();
    setup.renderer.answer(|_| AT_ONCE);
    let report = setup.ask().await;
    let ended = setup.ended(&report).await;
    assert_eq!((ended.text("state"), outcomes(&ended)), ("FAILED", vec!["FAILED"; 5]));
    eventually("the alert is taken", limit(), || async {
        (!setup.alerts.taken().is_empty()).then_some(())
    })
    .await;
    assert!(!storage.exists(), "the storage was made anew, somewhere else");
    // An operator repairs the storage and retries the report.
    fs::rename(&away, &storage).unwrap();
    let retry = format!("/v1/reports/{report}/retry");
    let key = new_key();
    let headers = [("idempotency-key", key.as_str())];
    let retried = setup.client.post(&retry, &headers, &json!({})).await;
    assert_eq!(retried.status, 202, "{retried:?}");
    let ended = setup.ended(retried.text("reportId")).await;
    assert_eq!((ended.text("state"), ended.text("retryOf")), ("SUCCEEDED", report.as_str()));
    assert_eq!(setup.alerts.tries(), 1);
}

#[tokio::test]
async fn a_report_waits_for_room_in_a_full_storage() {
    let Some(setup) = Setup::start_on_small_storage("storage-full").await else {
        eprintln!("skipped: this user may not mount a disk");
        return;
    };
    // One file is larger than the whole storage. Then the first file fits, and the second does
    // not.
    setup.renderer.answer(|call| match call.attempt {
        1 => Answer::Bytes(vec![b'x'; 5 << 20]),
        2 => Answer::Bytes(vec![b'x'; 3 << 20]),
        _ => AT_ONCE,
    });
    let report = setup.ask_for(&["csv", "json"]).await;
    let ended = setup.ended(&report).await;
    assert_eq!(ended.text("state"), "SUCCEEDED", "{ended:?}");
    assert_eq!(outcomes(&ended), ["FAILED", "FAILED", "SUCCEEDED"]);
    for (error, extension) in errors(&ended).into_iter().zip(["csv", "json"]) {
        let full = format!(".{extension}: the storage is full");
        assert!(error.as_str().unwrap().contains(&full), "{error}");
    }
    // Another large file fits: no file of the failed attempts takes space.
    setup.renderer.answer(|_| Answer::Bytes(vec![b'x'; 3 << 20]));
    let report = setup.ask().await;
    let ended = setup.ended(&report).await;
    assert_eq!((ended.text("state"), outcomes(&ended)), ("SUCCEEDED", vec!["SUCCEEDED"]));
    assert_eq!(setup.csv(&report).await.len(), 3 << 20);
}
