//! A customer who follows the own events, by a stream and by a webhook endpoint, while the deposits
//! of others are measured. So the services read the whole log of events, as in a system in use.

use anyhow::Result;
use client::Request;
use serde_json::json;

use crate::{api, event_streams::EventStreams, stack::Stack};

/// No receiver: the account has no movements.
const URL: &str = "http://127.0.0.1:65535/";

/// Begins to follow. It ends when the streams are dropped.
///
/// # Errors
/// A request failed.
pub(crate) async fn follow(stack: &Stack) -> Result<EventStreams> {
    let (owner, admin) = ("bystander", &stack.file.tokens.admin);
    let account = json!({ "currency": "KRW", "ownerId": owner });
    let account = Request::post("/v1/accounts", &account)?;
    let account = api::request(stack, admin, &account).await?;
    let scopes = ["events:read", "webhooks:write"];
    let key = json!({ "name": owner, "userId": owner, "scopes": scopes });
    let key = api::request(stack, admin, &Request::post("/v1/api-keys", &key)?).await?;
    let (secret, endpoint) = (api::text(&key, "/secret")?, json!({ "url": URL }));
    let endpoint = Request::post("/v1/webhook-endpoints", &endpoint)?;
    api::request(stack, &secret, &endpoint).await?;
    let query = format!("accountId={}", api::text(&account, "/accountId")?);
    EventStreams::open(stack, &[query]).await
}
