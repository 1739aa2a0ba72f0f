//! `Prefer: wait`: a client hears of its record wherever the result arrived.

use std::time::{Duration, Instant};

use reqwest::Method;
use tests::{Client, Stack, client::new_key};

#[tokio::test]
async fn a_client_of_one_replica_is_notified_of_results_consumed_by_another() {
    let stack = Stack::shared().await;
    // All requests go to one replica; the results are shared between both.
    let client = Client::teller_at(stack, "account-service-0");
    let account = client.open_account("KRW").await;
    let mut late = 0;
    for _ in 0..40 {
        let begun = Instant::now();
        let answer = client.deposit(&account, "1").await;
        assert_eq!((answer.status, answer.text("status")), (200, "SUCCESS"));
        assert_eq!(answer.header("preference-applied"), Some("wait=20"));
        // Without news it looks into the database every 500 ms only.
        late += i32::from(begun.elapsed() > Duration::from_millis(450));
    }
    // Half of them, if only its own results woke it; a busy machine may delay a few.
    assert!(late <= 8, "{late} of 40 were heard of late");
}

#[tokio::test]
async fn a_record_that_does_not_settle_in_time_is_answered_as_pending() {
    let stack = Stack::shared().await;
    let client = Client::teller(stack);
    let account = client.open_account("KRW").await;
    let now = client.movement("deposits", &account, "1", &new_key(), Some(0)).await;
    assert_eq!(now.status, if now.text("status") == "PENDING" { 202 } else { 200 });
    assert_eq!(now.header("preference-applied"), Some("wait=0"));
    let odd = [("prefer", "wait=soon")];
    let path = format!("/v1/records/{}", now.text("recordId"));
    let ignored = client.send(Method::GET, &path, &odd, None).await.unwrap();
    assert_eq!((ignored.status, ignored.header("preference-applied")), (200, None));
}
