//! Alerts: tell an operator about a report that failed for good, until the message is
//! taken. The alert is a row of the same commit as the state FAILED.
//!
//! The same loop publishes the report's dead letter.

use std::time::Duration;

use async_nats::{HeaderMap, jetstream};
use contract::{DEAD_LETTER, Job, ReportId, ReportQueue, dead_letter};
use runtime::postgres::PgPool;
use runtime::{
    http::client::HttpClient,
    nats::{outgoing::Outgoing, publish::publish_all},
    postgres::limited,
    tasks::sleep_unless_stopped,
    telemetry::trace::Trace,
};
use serde_json::{Value, json};
use tokio_util::{bytes::Bytes, sync::CancellationToken};

use crate::store::{self, DueAlert};

/// The interval between two looks for due alerts.
const EVERY: Duration = Duration::from_secs(1);
/// Time limit for one request to the receiver.
const WEBHOOK_LIMIT: Duration = Duration::from_secs(10);

/// The JSON of an alert. Slack and compatible receivers show `text`.
#[must_use]
pub fn alert(id: ReportId, kind: &str, failures: i32, error: &str) -> Value {
    let times = if failures == 1 { "once".to_owned() } else { format!("{failures} times") };
    let text = format!(
        "Report {id} ({kind}) failed {times} and is not tried again. Last error: {error}. \
         Retry it with `passbook reports retry {id}`."
    );
    json!({
        "text": text,
        "reportId": id,
        "kind": kind,
        "failures": failures,
        "error": error,
    })
}

/// Sends due alerts.
#[derive(Debug)]
pub struct Alerts {
    /// The database with the alerts.
    pub pool: PgPool,
    /// Publishes dead letters.
    pub jetstream: jetstream::Context,
    /// The queue of the reports.
    pub queue: ReportQueue,
    /// The receiver. Without one, an alert is a log line and a metric.
    pub webhook: Option<HttpClient>,
}

impl Alerts {
    /// Sends due alerts until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        while sleep_unless_stopped(EVERY, &stop).await {
            if let Some(Err(error)) = stop.run_until_cancelled(self.run_once()).await {
                tracing::warn!(error = format!("{error:#}"), "sending alerts failed; retrying");
            }
        }
    }

    /// Sends the alerts that are due now. An error about one, such as a row that another
    /// transaction holds, does not delay the others.
    ///
    /// # Errors
    /// If the database is unavailable.
    pub async fn run_once(&self) -> anyhow::Result<()> {
        let mut failed = None;
        for alert in limited(store::claim_alerts(&self.pool)).await?? {
            if let Err(error) = self.deliver(&alert).await {
                failed = Some(error.context(format!("the alert of report {}", alert.report)));
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        let open = limited(store::open_alerts(&self.pool)).await??;
        metrics::gauge!("passbook_report_alerts_open").set(u32::try_from(open).unwrap_or(u32::MAX));
        Ok(())
    }

    async fn deliver(&self, alert: &DueAlert) -> anyhow::Result<()> {
        if !alert.is_dead_lettered {
            self.dead_letter(alert).await?;
        }
        if !alert.is_taken {
            self.send(alert).await?;
        }
        Ok(())
    }

    async fn send(&self, alert: &DueAlert) -> anyhow::Result<()> {
        if alert.tries == 0 {
            let text = alert.payload.get("text").and_then(Value::as_str).unwrap_or_default();
            tracing::error!(report.id = %alert.report, alert = text, "a report failed for good");
        }
        let outcome = match &self.webhook {
            // Logged above: there is nobody else to tell.
            None => Ok(()),
            Some(webhook) => post(webhook, &alert.payload).await,
        };
        let name = if outcome.is_ok() { "taken" } else { "refused" };
        metrics::counter!("passbook_report_alert_tries_total", "outcome" => name).increment(1);
        match outcome {
            Ok(()) => limited(store::set_alert_taken(&self.pool, alert.report)).await??,
            Err(error) => {
                tracing::warn!(report.id = %alert.report, tries = alert.tries + 1, error,
                    "the receiver did not take an alert; it is sent again");
                limited(store::set_alert_failed(&self.pool, alert.report, &error)).await??;
            }
        }
        Ok(())
    }

    /// Publishes the report's dead letter. A crash before it is recorded publishes the
    /// same letter again, under the same id.
    async fn dead_letter(&self, alert: &DueAlert) -> anyhow::Result<()> {
        let place = format!("report.{}", alert.report);
        let error = alert.payload.get("error").and_then(Value::as_str).unwrap_or_default();
        let reason = format!("report {} failed for good: {error}", alert.report);
        let mut headers = HeaderMap::new();
        headers.insert(dead_letter::REASON, dead_letter::header_text(&reason));
        headers.insert(dead_letter::SUBJECT, self.queue.subject);
        headers.insert(dead_letter::PLACE, place.as_str());
        headers.insert(dead_letter::MESSAGE_ID, alert.report.to_string().as_str());
        let letter = Outgoing {
            subject: dead_letter::open_subject(self.queue.stream, self.queue.consumer),
            message_id: place,
            trace: Trace::begin(),
            redrive_of: None,
            headers,
            payload: Bytes::from(serde_json::to_vec(&Job { report_id: alert.report })?),
            sharing: None,
        };
        if let Err(missing) = publish_all(&self.jetstream, &[letter]).await {
            tracing::warn!(report.id = %alert.report, stream = DEAD_LETTER, reason = missing.reason,
                "a dead letter got no PubAck; it is published again");
            return Ok(());
        }
        metrics::counter!("passbook_dead_letters_total", "consumer" => self.queue.consumer)
            .increment(1);
        Ok(limited(store::set_dead_lettered(&self.pool, alert.report)).await??)
    }
}

/// The error does not show the URL: it may contain a secret.
async fn post(webhook: &HttpClient, payload: &Value) -> Result<(), String> {
    let posted = webhook.post_json(None, &[], payload.to_string().into_bytes());
    let response = tokio::time::timeout(WEBHOOK_LIMIT, posted).await;
    let response = response.map_err(|_| format!("no answer within {WEBHOOK_LIMIT:?}"))?;
    let status = response.map_err(|error| format!("{error:#}"))?.status();
    if status.is_success() { Ok(()) } else { Err(format!("the receiver answered {status}")) }
}
