//! At most one report runs, whatever the number of replicas and requests.

use std::time::Duration;

use futures::future::join_all;
use tests::{Client, Stack, broker, eventually};

use super::{
    renderer::{Answer, Renderer},
    statement,
};

const REQUESTS: usize = 200;

#[tokio::test]
async fn two_hundred_requests_at_three_replicas_run_one_at_a_time_in_their_order() {
    let renderer = Renderer::start().await;
    // Long enough for another replica to begin another report meanwhile.
    renderer.answer(|_| Answer::File(Duration::from_millis(20)));
    let stack = Stack::start_reports("one-at-a-time", 3, &[renderer.setting()]).await;
    let client = Client::teller(&stack);
    let request = statement(&client.open_account("USD").await, &["csv"]);
    let accepted = join_all((0..REQUESTS).map(|_| client.report(&request, 0))).await;
    for accepted in &accepted {
        assert_eq!(accepted.status, 202, "{accepted:?}");
    }
    let reports = stack.reports().await;
    eventually("all reports have ended", Duration::from_secs(90), || async {
        let open: i64 =
            sqlx::query_scalar("SELECT count(*) FROM reports WHERE state IN ('QUEUED', 'RUNNING')")
                .fetch_one(&reports)
                .await
                .unwrap();
        (open == 0).then_some(())
    })
    .await;
    let in_order: Vec<(String, String, i32)> =
        sqlx::query_as("SELECT id::text, state, attempt FROM reports ORDER BY position")
            .fetch_all(&reports)
            .await
            .unwrap();
    assert_eq!(in_order.len(), REQUESTS);
    assert!(in_order.iter().all(|(_, state, attempt)| state == "SUCCEEDED" && *attempt == 1));
    assert_eq!(renderer.most_inside(), 1);
    let calls: Vec<_> = renderer.calls().into_iter().map(|call| call.report).collect();
    let ids: Vec<_> = in_order.into_iter().map(|(id, ..)| id).collect();
    assert_eq!(calls, ids);
    let workers: i64 = sqlx::query_scalar("SELECT count(DISTINCT worker) FROM report_attempts")
        .fetch_one(&reports)
        .await
        .unwrap();
    assert_eq!(workers, 3, "all replicas work");
    let jetstream = broker::connect(&stack).await;
    eventually("the queue is empty", Duration::from_secs(20), || async {
        (broker::stream(&jetstream, "job").await.state.messages == 0).then_some(())
    })
    .await;
}
