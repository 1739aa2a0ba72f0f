//! Workers that are killed or frozen in the middle of a report.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use tests::{
    Client, broker, eventually,
    process::{Paused, signal},
    scale,
};

use super::{
    renderer::{AT_ONCE, Answer},
    setup::{Setup, limit, outcomes},
    statement,
};

#[tokio::test]
async fn a_report_survives_three_crashes_of_its_worker_and_not_five() {
    let setup = Setup::start("report-crashes", 2, 1, &["PASSBOOK_REPORT_CLEANUP_EVERY=1s"]).await;
    // Held until its worker is killed.
    setup.renderer.answer(|call| if call.attempt <= 3 { Answer::Nothing } else { AT_ONCE });
    let report = setup.ask().await;
    for attempt in 1..=3 {
        signal(setup.attempt_runs(&report, attempt).await, Signal::SIGKILL);
    }
    let ended = setup.ended(&report).await;
    assert_eq!(ended.text("state"), "SUCCEEDED", "{ended:?}");
    assert_eq!(outcomes(&ended), ["LOST", "LOST", "LOST", "SUCCEEDED"]);
    assert_eq!(setup.csv(&report).await, format!("{report}/4.csv"));
    assert_eq!(setup.files(&report).len(), 1);
    assert_eq!(setup.alerts.tries(), 0);

    // The first report is held each time, and the one behind it never.
    let held = std::sync::OnceLock::new();
    setup.renderer.answer(move |call| {
        if held.get_or_init(|| call.report.clone()) == &call.report {
            Answer::Nothing
        } else {
            AT_ONCE
        }
    });
    let report = setup.ask().await;
    let behind = setup.ask().await;
    for attempt in 1..=5 {
        signal(setup.attempt_runs(&report, attempt).await, Signal::SIGKILL);
    }
    let ended = setup.ended(&report).await;
    assert_eq!(ended.text("state"), "FAILED", "{ended:?}");
    assert_eq!(outcomes(&ended), ["LOST"; 5]);
    let next = setup.ended(&behind).await;
    assert_eq!(next.text("state"), "SUCCEEDED", "{next:?}");

    let jetstream = broker::connect(&setup.stack).await;
    broker::dead_letter(&jetstream, limit(), |payload| {
        let letter: Value = serde_json::from_slice(payload).unwrap_or_default();
        letter["reportId"] == report.as_str()
    })
    .await;
    // The receiver refused the first one.
    eventually("the alert is taken", limit(), || async {
        let open = "report_alerts WHERE taken_at IS NULL OR dead_lettered_at IS NULL";
        (setup.count(open).await == 0).then_some(())
    })
    .await;
    let taken = setup.alerts.taken();
    assert_eq!((taken.len(), setup.alerts.tries()), (1, 2));
    assert_eq!(taken[0]["reportId"], Value::from(report.as_str()));
    assert!(taken[0]["text"].as_str().unwrap().contains(&report), "{taken:?}");
    assert_eq!(broker::dead_letters(&jetstream).await.len(), 1);
    assert_eq!(setup.renderer.calls_of(&report).len(), 5, "it was tried again");
    let scratch = setup.stack.dir.join("scratch");
    eventually("the temporary files of the killed workers are deleted", limit(), || async {
        (std::fs::read_dir(&scratch).unwrap().count() == 0).then_some(())
    })
    .await;
}

/// At full size, the worker is frozen for 90 seconds.
#[tokio::test]
async fn a_frozen_worker_is_fenced_off_and_its_files_are_deleted() {
    let setup = Setup::start("frozen-report", 2, 0, &[]).await;
    // The first attempt stores one of two files.
    setup.renderer.answer(|call| match (call.attempt, call.format.as_str()) {
        (1, "json") => Answer::Nothing,
        _ => AT_ONCE,
    });
    let report = setup.ask_for(&["csv", "json"]).await;
    setup.called("the second format", |call| call.format == "json").await;
    let frozen = setup.attempt_runs(&report, 1).await;
    let (paused, since) = (Paused::new([frozen]), Instant::now());
    assert_eq!(setup.files(&report).len(), 1, "{:?}", setup.files(&report));
    let other = setup.attempt_runs(&report, 2).await;
    assert_ne!(frozen, other);
    eventually("the other worker makes the report", limit(), || async {
        (setup.count("reports WHERE state = 'SUCCEEDED'").await == 1).then_some(())
    })
    .await;
    println!("another worker had made the report of a frozen one after {:.1?}", since.elapsed());
    if scale::full() {
        tokio::time::sleep(Duration::from_secs(90).saturating_sub(since.elapsed())).await;
    }
    drop(paused);
    eventually("the files of attempt 1 are deleted", limit(), || async {
        let files = setup.files(&report);
        (files.len() == 2 && files.iter().all(|file| file.starts_with("2/"))).then_some(())
    })
    .await;
    let ended = setup.ended(&report).await;
    assert_eq!(ended.text("state"), "SUCCEEDED", "{ended:?}");
    assert_eq!(outcomes(&ended), ["LOST", "SUCCEEDED"]);
    assert_eq!(setup.csv(&report).await, format!("{report}/2.csv"));
    assert_eq!(setup.alerts.tries(), 0);

    // The thawed worker works on while the other one is frozen, maybe with a message in its hands.
    let request = statement(&setup.client.open_account("USD").await, &["csv"]);
    let processes = setup.stack.file().processes;
    let replica = processes.iter().find(|process| process.pid == frozen).unwrap();
    let at_thawed = Client::teller_at(&setup.stack, &replica.name);
    let paused = Paused::new([other]);
    let accepted = at_thawed.report(&request, 0).await;
    let ended = at_thawed.report_ended(accepted.text("reportId"), limit()).await;
    assert_eq!((ended.text("state"), outcomes(&ended)), ("SUCCEEDED", vec!["SUCCEEDED"]));
    drop(paused);
}
