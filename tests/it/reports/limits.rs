//! What one caller may take of the report-service, and the ends of streams.

use std::time::{Duration, Instant};

use contract::Scopes;
use devstack::Secrets;
use futures::future::join_all;
use serde_json::{Value, json};
use tests::{Client, EventStream, client::new_key, eventually};

use super::{
    renderer::Answer,
    setup::{Setup, limit},
    statement,
};

const SOON: Duration = Duration::from_secs(20);

/// A stack on which no report ends.
async fn held(name: &str) -> Setup {
    let setup = Setup::start(name, 1, 0, &[]).await;
    setup.renderer.answer(|_| Answer::Nothing);
    setup
}

async fn cancel(client: &Client, report: &str) {
    let cancelled = client.post(&format!("/v1/reports/{report}/cancel"), &[], &json!({})).await;
    assert_eq!(cancelled.status, 202, "{cancelled:?}");
}

#[tokio::test]
async fn a_customer_has_a_bounded_number_of_open_reports() {
    let setup = held("report-bound").await;
    let (ann, ben) = (Client::customer(&setup.stack, "ann"), Client::customer(&setup.stack, "ben"));
    let account = ann.open_account("USD").await;
    let mut request = statement(&account, &["csv"]);
    request["unique"] = json!(true);
    let (key, first) = (new_key(), &request);
    let unique = ann.post("/v1/reports", &[("idempotency-key", &key)], first).await;
    assert_eq!(unique.status, 202, "{unique:?}");
    let id = unique.text("reportId").to_owned();
    setup.attempt_runs(&id, 1).await;
    request["unique"] = json!(false);

    // Requests at the same time, through several connections of the replica.
    let answers = join_all((0..40).map(|_| ann.report(&request, 0))).await;
    let mut queued = Vec::new();
    for answer in answers {
        if answer.status == 202 {
            queued.push(answer.text("reportId").to_owned());
        } else {
            assert_eq!((answer.status, answer.problem()), (429, "too-many-open-reports"));
            assert!(answer.header("retry-after").is_some(), "{answer:?}");
        }
    }
    assert_eq!(queued.len(), 9, "besides the one that runs");
    assert_eq!(setup.count("reports").await, 10);
    // A repeated request, and one that joins an open report, need no place.
    request["unique"] = json!(true);
    let again = ann.post("/v1/reports", &[("idempotency-key", &key)], &request).await;
    assert_eq!((again.status, again.header("idempotent-replayed")), (202, Some("true")));
    let joined = ann.report(&request, 0).await;
    assert_eq!((joined.status, joined.text("reportId")), (202, id.as_str()), "{joined:?}");
    request["unique"] = json!(false);

    // A cancelled report leaves its place to one report. A retry needs a place, too.
    cancel(&ann, &queued[0]).await;
    assert_eq!(ann.report(&request, 0).await.status, 202);
    let retried = ann.post(&format!("/v1/reports/{}/retry", queued[0]), &[], &json!({})).await;
    assert_eq!((retried.status, retried.problem()), (429, "too-many-open-reports"));
    // Others have their own bound, or none.
    let of_ben = statement(&ben.open_account("USD").await, &["csv"]);
    assert_eq!(ben.report(&of_ben, 0).await.status, 202);
    for _ in 0..12 {
        assert_eq!(setup.client.report(&request, 0).await.status, 202);
    }
}

#[tokio::test]
async fn a_customer_has_a_bounded_number_of_followers() {
    let setup = held("report-followers").await;
    let ann = Client::customer(&setup.stack, "ann");
    let request = statement(&ann.open_account("USD").await, &["csv"]);
    let report = ann.report(&request, 0).await.text("reportId").to_owned();
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(ann.follow_report(&report).await.unwrap());
    }
    let refused = ann.follow_report(&report).await.unwrap_err().unwrap();
    assert_eq!((refused.status, refused.problem()), (429, "too-many-streams"), "{refused:?}");
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    // A request that may not wait is answered at once.
    let (path, begun) = (format!("/v1/reports/{report}"), Instant::now());
    let wait = [("prefer", "wait=10")];
    let shown = ann.send(reqwest::Method::GET, &path, &wait, None).await.unwrap();
    assert_eq!((shown.status, shown.header("preference-applied")), (200, None), "{shown:?}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    // A teller has more places, and a stream that ends leaves its place.
    for _ in 0..5 {
        streams.push(setup.client.follow_report(&report).await.unwrap());
    }
    streams.clear();
    eventually("a place is free", SOON, || async {
        ann.follow_report(&report).await.ok().map(drop)
    })
    .await;
}

/// Reads the first event, which has the present state.
async fn state(stream: &mut EventStream) -> Value {
    stream.next_within(SOON).await.unwrap()["state"].clone()
}

#[tokio::test]
async fn a_progress_stream_ends_with_its_token() {
    let setup = held("report-token").await;
    let ann = Client::customer(&setup.stack, "ann");
    let request = statement(&ann.open_account("USD").await, &["csv"]);
    let report = ann.report(&request, 0).await.text("reportId").to_owned();
    setup.attempt_runs(&report, 1).await;
    // The leeway of the verifier is 30 s.
    let secrets = Secrets::read(&setup.stack.dir).unwrap();
    let lifetime = time::Duration::seconds(-22);
    let token = secrets.token("ann", Scopes::customer(), lifetime).unwrap();
    let expiring = Client::new(&setup.stack.file().api, &token);
    let mut stream = expiring.follow_report(&report).await.unwrap();
    let mut valid = ann.follow_report(&report).await.unwrap();
    let begun = Instant::now();
    tokio::time::timeout(SOON, stream.ended()).await.unwrap();
    assert!(begun.elapsed() > Duration::from_secs(3), "{:?}", begun.elapsed());
    let refused = expiring.follow_report(&report).await.unwrap_err().unwrap();
    assert_eq!(refused.status, 401, "{refused:?}");
    // The stream of a valid token goes on to the end of the report.
    cancel(&ann, &report).await;
    let mut states = Vec::new();
    while let Some(event) = valid.next_within(limit()).await {
        states.push(event["state"].as_str().unwrap().to_owned());
    }
    assert_eq!(states.last().map(String::as_str), Some("CANCELLED"), "{states:?}");
}

#[tokio::test]
async fn a_progress_stream_ends_if_the_database_has_lost_the_report() {
    let setup = held("report-lost").await;
    let running = setup.ask().await;
    setup.attempt_runs(&running, 1).await;
    let queued = setup.ask().await;
    let mut stream = setup.client.follow_report(&queued).await.unwrap();
    let mut other = setup.client.follow_report(&running).await.unwrap();
    assert_eq!(state(&mut stream).await, "QUEUED");
    // As after a failover to a standby without the last commits.
    let lost = sqlx::query("DELETE FROM reports WHERE id::text = $1").bind(&queued);
    assert_eq!(lost.execute(&setup.reports).await.unwrap().rows_affected(), 1);
    tokio::time::timeout(SOON, stream.ended()).await.unwrap();
    let hidden = setup.client.follow_report(&queued).await.unwrap_err().unwrap();
    assert_eq!((hidden.status, hidden.problem()), (404, "report-not-found"));
    assert_eq!(state(&mut other).await, "RUNNING");
}
