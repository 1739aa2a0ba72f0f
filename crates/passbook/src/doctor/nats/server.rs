//! Each server of the broker, at its monitoring port: its own health check, and its storage.
//!
//! After a write error, nats-server stores nothing in the stream until it is restarted, even if there
//! is room again. Publishers get no answer. Only the full `/healthz` tells.

use std::time::Duration;

use anyhow::{Context, Result};
use client::{Answer, Client, Request};
use http::StatusCode;
use serde::Deserialize;

use crate::doctor::check::Area;

/// The names of these checks. Alerts select them.
const HEALTH: &str = "server health";
const STORAGE: &str = "server storage";
const TIMEOUT: Duration = Duration::from_secs(5);
/// The used part of the storage for a finding, in percent. The limits of all streams together are
/// less than nine tenths of it.
const MAX_USED_PERCENT: u64 = 90;

/// The answer of `/healthz`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Health {
    error: String,
}

/// The answer of `/jsz`.
#[derive(Debug, Deserialize)]
struct JetStream {
    storage: u64,
    config: Option<Limits>,
}

#[derive(Debug, Deserialize)]
struct Limits {
    max_storage: u64,
}

/// Checks the servers at these URLs.
pub(super) async fn check(area: &mut Area, monitors: &[String]) {
    if monitors.is_empty() {
        area.not_checked(HEALTH, "no monitoring URL is given: give --nats-monitor-url");
        return;
    }
    for monitor in monitors {
        check_health(area, monitor).await;
        check_storage(area, monitor).await;
    }
}

async fn get(monitor: &str, path: &str) -> Result<Answer> {
    let client = Client::builder(monitor, "").timeout(TIMEOUT).build()?;
    Ok(client.send(&Request::get(path)).await?)
}

async fn check_health(area: &mut Area, monitor: &str) {
    let advice = "check whether nats-server runs, and its monitoring URL";
    let lookup = get(monitor, "/healthz");
    let Some(Answer { status, body, .. }) = area.attempt(HEALTH, advice, lookup).await else {
        return;
    };
    if status == StatusCode::OK {
        return area.fine(HEALTH, monitor);
    }
    let Health { error } = serde_json::from_slice(&body).unwrap_or_default();
    let advice = if error.contains("write error") {
        "make sure that its disk has room, then restart this nats-server: it stores nothing in the \
         stream until then"
    } else {
        "see its log; a server that catches up with its cluster recovers by itself; if a stream stays \
         so for ten minutes while all servers run, delete it: the services create it again; deleting \
         DEAD_LETTER loses its dead letters"
    };
    area.finding(HEALTH, format!("{monitor}: {error} ({status})"), advice);
}

async fn check_storage(area: &mut Area, monitor: &str) {
    let lookup = async {
        let answer = get(monitor, "/jsz").await?.success()?;
        let jetstream: JetStream = answer.json().context("reading /jsz")?;
        let limits = jetstream.config.context("JetStream is not enabled")?;
        Result::Ok((jetstream.storage, limits.max_storage))
    };
    let advice =
        "see the log of nats-server: its monitoring port does not return the state of JetStream";
    let Some((used, limit)) = area.attempt(STORAGE, advice, lookup).await else { return };
    let detail = format!("{monitor}: {used} of {limit} bytes");
    if used.saturating_mul(100) >= limit.saturating_mul(MAX_USED_PERCENT) {
        let advice = "find the streams that are not Passbook's: a full server rejects every message, \
                      whatever room a stream has; raise max_file_store and the volume, or lower \
                      PASSBOOK_STREAM_STORAGE";
        area.finding(STORAGE, detail, advice);
    } else {
        area.fine(STORAGE, detail);
    }
}
