//! Reads from the ledger: past balances, and `consistency=ledger`.

mod outages;
mod past_balances;
mod present;

use tests::{Client, Response};

/// The answer for a path with this query.
async fn query(client: &Client, path: &str, query: &str) -> Response {
    client.get(&format!("{path}?{query}")).await
}

/// Balance and `accountSeq`.
fn position(answer: &Response) -> (String, i64) {
    assert_eq!(answer.status, 200, "{answer:?}");
    (answer.text("balance").to_owned(), answer.body["accountSeq"].as_i64().unwrap())
}
