//! The broker loses everything, or PostgreSQL is away, while reports wait and run.

use std::time::{Duration, Instant};

use devstack::Fault;
use serde_json::json;
use tests::{client::new_key, eventually, scale};

use super::{
    renderer::{AT_ONCE, Answer},
    setup::{Setup, limit, outcomes},
    statement,
};

#[tokio::test]
async fn reports_survive_a_wiped_broker_and_an_absent_database() {
    let setup = Setup::start_with_faults("report-outages").await;

    // One runs, two wait.
    setup.renderer.answer(|_| Answer::File(Duration::from_secs(6)));
    let running = setup.ask().await;
    setup.attempt_runs(&running, 1).await;
    let waiting = [setup.ask().await, setup.ask().await];
    setup.renderer.answer(|_| AT_ONCE);
    let before = setup.stack.pid("nats");
    setup.stack.fault("nats", Fault::Wipe).await;
    setup.stack.restarted("nats", before, limit()).await;
    // A request needs no broker.
    let late = setup.ask().await;
    for report in [&running, &waiting[0], &waiting[1], &late] {
        let ended = setup.ended(report).await;
        assert_eq!((ended.text("state"), outcomes(&ended)), ("SUCCEEDED", vec!["SUCCEEDED"]));
    }
    let calls: Vec<_> = setup.renderer.calls().into_iter().map(|call| call.report).collect();
    assert_eq!(calls, [&running, &waiting[0], &waiting[1], &late].map(String::as_str));
    assert_eq!(setup.renderer.most_inside(), 1);

    // The database is away for longer than a lease.
    setup.renderer.answer(|call| if call.attempt == 1 { Answer::Nothing } else { AT_ONCE });
    let running = setup.ask().await;
    setup.attempt_runs(&running, 1).await;
    let request = statement(&setup.client.open_account("USD").await, &["csv"]);
    setup.stack.fault("postgres", Fault::Hold).await;
    let key = new_key();
    let headers = [("idempotency-key", key.as_str())];
    let refused = setup.client.post("/v1/reports", &headers, &request).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    let away = if scale::full() { 60 } else { 4 };
    tokio::time::sleep(Duration::from_secs(away)).await;
    setup.stack.fault("postgres", Fault::Release).await;
    let back = Instant::now();
    let ended = setup.ended(&running).await;
    assert_eq!(ended.text("state"), "SUCCEEDED", "{ended:?}");
    assert_eq!(outcomes(&ended), ["LOST", "SUCCEEDED"]);
    assert_eq!(setup.csv(&running).await, format!("{running}/2.csv"));
    println!("reports ran {:.1?} after PostgreSQL's absence of {away} s", back.elapsed());
    // The refused request is the same one now, whether it was stored or not.
    setup.renderer.answer(|_| AT_ONCE);
    let accepted = eventually("the request is accepted", limit(), || async {
        let response = setup.client.post("/v1/reports", &headers, &request).await;
        (response.status < 300).then_some(response)
    })
    .await;
    let ended = setup.ended(accepted.text("reportId")).await;
    assert_eq!(ended.text("state"), "SUCCEEDED", "{ended:?}");
    assert_eq!(ended.body["error"], json!(null));
    assert_eq!(setup.count("reports WHERE state <> 'SUCCEEDED'").await, 0);
    assert_eq!(setup.alerts.tries(), 0);
}

#[tokio::test]
async fn a_replica_without_its_database_holds_up_no_report() {
    let setup = Setup::start_with_faults("one-without-database").await;
    let name = "report-service-0";
    setup.stack.fault(&format!("{name}/postgres"), Fault::Refuse).await;
    setup.stack.replica_not_ready(name).await;
    // The development proxy notices it a moment later.
    let request = statement(&setup.client.open_account("USD").await, &["csv"]);
    eventually("the other replica answers", limit(), || async {
        (setup.client.report(&request, 0).await.status == 202).then_some(())
    })
    .await;
    // One of the messages may go to that replica.
    for _ in 0..4 {
        let report = setup.ask().await;
        let ended = setup.ended(&report).await;
        assert_eq!(ended.text("state"), "SUCCEEDED", "{ended:?}");
    }
    setup.stack.fault(&format!("{name}/postgres"), Fault::Pass).await;
    setup.stack.replica_ready(name).await;
    let report = setup.ask().await;
    assert_eq!(setup.ended(&report).await.text("state"), "SUCCEEDED");
    assert_eq!(setup.alerts.tries(), 0);
}
