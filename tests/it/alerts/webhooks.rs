//! The alerts about webhooks. The receiver is in the test.

use reqwest::Method;
use serde_json::json;
use tests::Client;

use super::Monitored;
use crate::webhooks::receiver::Receiver;

pub(super) async fn failing_receivers_and_late_deliveries(
    monitored: &mut Monitored,
    client: &Client,
) {
    const ALERTS: [&str; 3] = [
        "PassbookWebhooksLate",
        "PassbookWebhookReceiverFailing",
        "PassbookWebhookEndpointDisabled",
    ];
    monitored.resolved(&ALERTS).await;
    let receivers = [Receiver::start().await, Receiver::start().await, Receiver::start().await];
    let mut paths = Vec::new();
    for receiver in &receivers {
        let body = json!({ "url": receiver.url });
        let created = client.post("/v1/webhook-endpoints", &[], &body).await;
        paths.push(created.header("location").unwrap().to_owned());
    }
    let [late, failing, gone] = &receivers;
    // As by a replica that has died, but for longer.
    let lease = format!(
        "UPDATE webhook_endpoints SET fence = fence + 1, lease_until = now() + interval '1 hour'
         WHERE url = '{}'",
        late.url
    );
    let accounts = monitored.stack.accounts().await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(lease)).execute(&accounts).await.unwrap();
    failing.answer(500);
    gone.answer(410);
    client.open_account("KRW").await;
    monitored.fire(&ALERTS).await;
    assert!(late.deliveries().is_empty());
    for path in paths {
        let deleted = client.send(Method::DELETE, &path, &[], None).await.unwrap();
        assert_eq!(deleted.status, 204, "{deleted:?}");
    }
}
