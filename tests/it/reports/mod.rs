//! Reports over the API: requests, states, files.

mod access;
mod broker_clock;
mod cleanup;
mod cli;
mod crash_points;
mod crashes;
mod defects;
mod early_ends;
mod files;
mod foreign_settings;
mod frozen;
mod function;
mod limits;
mod one_at_a_time;
mod outages;
pub(crate) mod own_replica;
mod permanent_failures;
mod queue_settings;
mod renderer;
mod requests;
mod same_bytes;
mod setup;
mod standby;
mod storage;
mod unique;

use serde_json::{Value, json};
use tests::Client;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Every format of a statement.
const FORMATS: [&str; 5] = ["pdf", "csv", "xlsx", "json", "camt053"];

/// The request for a statement of an account opened in this test: from the start of
/// yesterday or the account's day, until now.
pub(crate) fn statement(account: &str, formats: &[&str]) -> Value {
    // PostgreSQL has microseconds.
    let now = OffsetDateTime::now_utc();
    let now = now.replace_microsecond(now.microsecond()).unwrap();
    json!({
        "kind": "statement",
        "accountId": account,
        "from": now.date().to_string(),
        "to": now.format(&Rfc3339).unwrap(),
        "timeZone": "UTC",
        "formats": formats,
    })
}

/// An account with three deposits and a withdrawal.
pub(crate) async fn used_account(client: &Client) -> String {
    let account = client.open_account("USD").await;
    for amount in ["100", "20.5", "3.25"] {
        client.deposit(&account, amount).await;
    }
    client.withdraw(&account, "23.75").await;
    account
}
