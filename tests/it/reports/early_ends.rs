//! Reports that end early: cancelled, or handed over by a worker that stops.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;
use tests::{Client, process::signal};

use super::{
    renderer::{AT_ONCE, Answer},
    setup::{Setup, limit, outcomes},
    statement,
};

#[tokio::test]
async fn a_report_is_cancelled_while_it_waits_and_while_it_runs() {
    let setup = Setup::start("report-ends", 2, 0, &[]).await;
    // The first of two files is stored before the report is held.
    setup.renderer.answer(|call| match call.format.as_str() {
        "json" => Answer::Nothing,
        _ => AT_ONCE,
    });
    let running = setup.ask_for(&["csv", "json"]).await;
    setup.called("the second format", |call| call.format == "json").await;
    let (waiting, last) = (setup.ask().await, setup.ask().await);
    let cancel = async |report: &str| {
        let path = format!("/v1/reports/{report}/cancel");
        setup.client.post(&path, &[], &json!({})).await
    };
    let cancelled = cancel(&waiting).await;
    assert_eq!((cancelled.status, cancelled.text("state")), (202, "CANCELLED"), "{cancelled:?}");
    let asked = cancel(&running).await;
    assert_eq!(asked.status, 202, "{asked:?}");
    let ended = setup.ended(&running).await;
    assert_eq!((ended.text("state"), outcomes(&ended)), ("CANCELLED", vec!["CANCELLED"]));
    assert_eq!(setup.files(&running), Vec::<String>::new());
    assert_eq!(ended.body["artifacts"], json!([]));
    // The queue goes on, without the cancelled one.
    let ended = setup.ended(&last).await;
    assert_eq!(ended.text("state"), "SUCCEEDED", "{ended:?}");
    assert_eq!(setup.renderer.calls_of(&waiting), []);
    for report in [&running, &waiting, &last] {
        let refused = cancel(report).await;
        assert_eq!((refused.status, refused.problem()), (409, "report-state-conflict"));
    }

    // A deploy: the worker is asked to stop, and the report is no failure.
    setup.renderer.answer(|call| if call.attempt <= 2 { Answer::Nothing } else { AT_ONCE });
    let report = setup.ask().await;
    for attempt in 1..=2 {
        signal(setup.attempt_runs(&report, attempt).await, Signal::SIGTERM);
    }
    let ended = setup.ended(&report).await;
    assert_eq!(ended.text("state"), "SUCCEEDED", "{ended:?}");
    assert_eq!(outcomes(&ended), ["HANDED_OVER", "HANDED_OVER", "SUCCEEDED"]);
    assert_eq!(setup.count("reports WHERE failures > 0").await, 0);
    assert_eq!(setup.alerts.tries(), 0);
    a_replica_that_stops_ends_each_wait(&setup).await;
}

/// Its API serves for a second after the signal.
async fn a_replica_that_stops_ends_each_wait(setup: &Setup) {
    for replica in ["report-service-0", "report-service-1"] {
        setup.stack.replica_ready(replica).await;
    }
    setup.renderer.answer(|_| Answer::Nothing);
    let held = setup.ask().await;
    let worker = setup.attempt_runs(&held, 1).await;
    let mut names = ["report-service-0", "report-service-1"].into_iter();
    let other = names.find(|name| setup.stack.pid(name) != worker).unwrap();
    let client = Client::teller_at(&setup.stack, other);
    let request = statement(&setup.client.open_account("USD").await, &["csv"]);
    let pid = setup.stack.pid(other);
    signal(pid, Signal::SIGTERM);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let follow = async {
        let mut stream = client.follow_report(&held).await.unwrap();
        assert_eq!(stream.next().await.unwrap()["state"], "RUNNING");
        stream.ended().await;
    };
    let wait = async { client.report(&request, 30).await };
    let both = tokio::time::timeout(Duration::from_secs(3), async { tokio::join!(follow, wait) });
    let ((), accepted) = both.await.unwrap();
    assert_eq!((accepted.status, accepted.text("state")), (202, "QUEUED"), "{accepted:?}");
    setup.stack.restarted(other, pid, limit()).await;
    let log = std::fs::read_to_string(setup.stack.dir.join(format!("logs/{other}.log"))).unwrap();
    assert!(!log.contains("still ran"), "{log}");
}
