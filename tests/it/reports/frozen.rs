//! All report-services frozen in the middle of a report, for longer than its lease and the ack
//! wait.

use std::time::{Duration, Instant};

use tests::{process::Paused, scale};

use super::{
    renderer::{AT_ONCE, Answer},
    setup::{Setup, outcomes},
};

#[tokio::test]
async fn a_report_is_made_once_though_all_its_workers_were_frozen_for_longer_than_its_lease() {
    let setup = Setup::start("all-frozen", 2, 0, &[]).await;
    // The file of the first attempt arrives while its worker is frozen.
    setup.renderer.answer(|call| match call.attempt {
        1 => Answer::File(Duration::from_secs(1)),
        _ => AT_ONCE,
    });
    let report = setup.ask().await;
    setup.attempt_runs(&report, 1).await;
    let behind = setup.ask().await;
    let replicas = ["report-service-0", "report-service-1"].map(|name| setup.stack.pid(name));
    let paused = Paused::new(replicas);
    tokio::time::sleep(Duration::from_secs(scale::size(90, 5))).await;
    drop(paused);
    let thawed = Instant::now();
    for report in [&report, &behind] {
        let ended = setup.ended(report).await;
        assert_eq!(ended.text("state"), "SUCCEEDED", "{ended:?}");
        // The attempt whose file is served: the last one, and no other succeeded.
        let outcomes = outcomes(&ended);
        let (last, before) = outcomes.split_last().unwrap();
        assert!(*last == "SUCCEEDED" && before.iter().all(|outcome| *outcome == "LOST"));
        assert_eq!(setup.csv(report).await, format!("{report}/{}.csv", outcomes.len()));
    }
    println!("both reports were made {:.1?} after the thaw", thawed.elapsed());
    assert_eq!(setup.count("reports WHERE state <> 'SUCCEEDED'").await, 0);
    assert_eq!(setup.alerts.tries(), 0);
}
