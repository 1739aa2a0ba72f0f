//! The services: their conditions at `/readyz`.

use std::time::Duration;

use client::{Client, Request};
use http::StatusCode;
use serde::Deserialize;

use super::check::{Area, Check};

const TIMEOUT: Duration = Duration::from_secs(3);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Readiness {
    conditions: Vec<Condition>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    name: String,
    up: bool,
    required: bool,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    for_seconds: u64,
}

/// Checks one process.
pub(super) async fn check(name: &str, admin: &str) -> Vec<Check> {
    let mut area = Area::new(name);
    let lookup = async {
        let client = Client::builder(admin, "").timeout(TIMEOUT).build()?;
        let answer = client.send(&Request::get("/readyz")).await?;
        Ok((answer.status, answer.body))
    };
    let advice = "check whether the process runs, and read the end of its log; if it does not run, \
                  start it again";
    let Some((status, body)) = area.attempt("ready", advice, lookup).await else {
        return area.into_checks();
    };
    let Readiness { conditions } = serde_json::from_slice(&body).unwrap_or_default();
    for condition in conditions.iter().filter(|condition| !condition.up) {
        let reason = condition.reason.as_deref().unwrap_or("down");
        let age = Duration::from_secs(condition.for_seconds);
        let detail = if condition.required {
            format!("not ready: {reason},")
        } else {
            format!("degraded: {reason},")
        };
        area.lasting(&condition.name, detail, age, advice_about(&condition.name));
    }
    match status {
        StatusCode::OK => area.fine("ready", ""),
        _ if conditions.iter().all(|condition| condition.up) => {
            let advice = "see its log: it is starting or stopping";
            area.finding("ready", format!("/readyz answers {status}"), advice);
        }
        _ => {}
    }
    area.into_checks()
}

fn advice_about(condition: &str) -> &'static str {
    match condition {
        "postgres" => {
            "see the findings about its database; if there are none, check PASSBOOK_DATABASE_URL and \
             the network to the database"
        }
        "nats" => {
            "see the findings about NATS; if there are none, check PASSBOOK_NATS_URL, user and \
             password, and the network to NATS"
        }
        "streams" => "see the findings about the size of this stream under NATS",
        "dead-letters" => {
            "see the findings about DEAD_LETTER and the servers under NATS; the messages are kept, and \
             settled once their dead letters are stored"
        }
        _ => "see the findings about this consumer under NATS, and the log of the process",
    }
}
