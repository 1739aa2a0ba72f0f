//! `Prefer: wait`: a client is notified of its record's result, no matter which
//! replica consumed the result.

use std::time::{Duration, Instant};

use reqwest::Method;
use tests::{Client, Stack, client::new_key};

#[tokio::test]
async fn a_client_of_one_replica_is_notified_of_results_consumed_by_another() {
    let stack = Stack::shared().await;
    // All requests go to one replica; both replicas consume results.
    let client = Client::teller_at(stack, "account-service-0");
    let account = client.open_account("KRW").await;
    let mut late = 0;
    for _ in 0..40 {
        let begun = Instant::now();
        let response = client.deposit(&account, "1").await;
        assert_eq!((response.status, response.text("status")), (200, "SUCCESS"));
        assert_eq!(response.header("preference-applied"), Some("wait=20"));
        // Without a notification, the replica queries the database only every 500 ms.
        late += i32::from(begun.elapsed() > Duration::from_millis(450));
    }
    // If no notification came from the other replica, half of them were late. A busy machine may
    // delay a few.
    assert!(late <= 8, "{late} of 40 responses were late");
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
