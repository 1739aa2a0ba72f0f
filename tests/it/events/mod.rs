//! The event log.

mod consumers;
mod failover;
mod horizon;
mod kills;
mod many_accounts;
mod older_release;
mod pages;
mod streams;
mod verified;

use std::collections::BTreeMap;

use serde_json::Value;
use tests::{Client, Response};

/// All pages of events after a cursor, each of up to `limit` items. Gives the events, and the
/// cursor of the end.
async fn all(
    client: &Client,
    query: &str,
    after: Option<&str>,
    limit: u16,
) -> (Vec<Value>, String) {
    let mut cursor = after.map(str::to_owned);
    let mut events = Vec::new();
    loop {
        let after = cursor.map(|cursor| format!("&after={cursor}")).unwrap_or_default();
        let page = client.get(&format!("/v1/events?limit={limit}{query}{after}")).await;
        assert_eq!(page.status, 200, "{page:?}");
        events.extend(items(&page).iter().cloned());
        let next = page.text("nextCursor").to_owned();
        if page.body["hasMore"] == false {
            return (events, next);
        }
        cursor = Some(next);
    }
}

fn items(page: &Response) -> &[Value] {
    page.body["items"].as_array().unwrap_or_else(|| panic!("{page:?}"))
}

fn text<'a>(event: &'a Value, field: &str) -> &'a str {
    event[field].as_str().unwrap_or_else(|| panic!("no {field} in {event:#}"))
}

/// Checks that the events of each account are numbered 1, 2, 3 … in this order.
fn assert_gapless(events: &[Value]) {
    let mut last = BTreeMap::new();
    for event in events {
        let last = last.entry(text(event, "accountId")).or_insert(0);
        let sequence = event["sequence"].as_i64().unwrap();
        assert_eq!(sequence, *last + 1, "{event:#}");
        *last = sequence;
    }
}
