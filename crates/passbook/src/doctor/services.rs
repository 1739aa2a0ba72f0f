//! The services' own words about themselves: `/readyz`.

use std::time::Duration;

use reqwest::StatusCode;
use serde::Deserialize;

use super::check::{Area, Check};

const TIMEOUT: Duration = Duration::from_secs(3);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
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

/// Asks one process.
pub(super) async fn look(name: &str, admin: &str) -> Vec<Check> {
    let mut area = Area::new(name);
    let ask = async {
        let http = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build()?;
        let url = format!("{}/readyz", admin.trim_end_matches('/'));
        let answer = http.get(url).send().await?;
        Ok((answer.status(), answer.bytes().await?))
    };
    let advice = "see whether the process runs and what its log says last; whoever runs it has to \
                  start it again";
    let Some((status, body)) = area.attempt("ready", advice, ask).await else {
        return area.done();
    };
    let Answer { conditions } = serde_json::from_slice(&body).unwrap_or_default();
    for condition in conditions.iter().filter(|it| !it.up) {
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
        _ if conditions.iter().all(|it| it.up) => {
            let advice = "see its log: it is starting, or was told to stop";
            area.finding("ready", format!("/readyz answers {status}"), advice);
        }
        _ => {}
    }
    area.done()
}

fn advice_about(condition: &str) -> &'static str {
    match condition {
        "postgres" => {
            "see the findings of its database; if there are none, check PASSBOOK_DATABASE_URL and \
             the network between them"
        }
        "nats" => {
            "see the findings of NATS; if there are none, check PASSBOOK_NATS_URL, user and \
             password, and the network between them"
        }
        _ => "see the findings of NATS about this consumer, and the log of the process",
    }
}
