//! The metrics of this service. `runtime` describes the metrics common to all
//! services.

use std::time::Duration;

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use report_document::{Format, Kind};

use crate::{job::State, store::Due};

/// Describes the metrics, and starts counters at zero, so that the first event shows
/// as an increase.
pub fn describe() {
    let counters = [
        ("passbook_reports_accepted_total", "Reports stored as QUEUED."),
        ("passbook_reports_ended_total", "Reports that reached an end state."),
        ("passbook_report_attempts_total", "Ended attempts."),
        ("passbook_report_alert_tries_total", "Alerts sent to their receiver."),
        ("passbook_report_redrives_total", "Messages sent again for due reports."),
        ("passbook_report_redrive_errors_total", "Failed redrive rounds."),
        ("passbook_report_orphans_deleted_total", "Deleted files that belong to no report."),
        ("passbook_report_renderer_requests_total", "Requests to the external renderer."),
    ];
    for (name, text) in counters {
        describe_counter!(name, Unit::Count, text);
    }
    describe_counter!(
        "passbook_report_artifacts_bytes_total",
        Unit::Bytes,
        "Size of the stored files."
    );
    describe_gauge!("passbook_reports_queued", Unit::Count, "QUEUED reports.");
    describe_gauge!("passbook_reports_running", Unit::Count, "RUNNING reports.");
    describe_gauge!(
        "passbook_reports_oldest_queued_seconds",
        Unit::Seconds,
        "Age of the oldest QUEUED report, 0 without any."
    );
    describe_gauge!(
        "passbook_report_alerts_open",
        Unit::Count,
        "Alerts that no receiver has taken yet."
    );
    describe_histogram!(
        "passbook_report_seconds",
        Unit::Seconds,
        "From the request for a report to its end."
    );
    describe_histogram!(
        "passbook_report_step_seconds",
        Unit::Seconds,
        "Duration of a step of an attempt."
    );
    for kind in Kind::ALL {
        let kind = kind.as_str();
        metrics::counter!("passbook_reports_accepted_total", "kind" => kind).increment(0);
        for state in State::ALL.into_iter().filter(|state| state.is_end()) {
            metrics::counter!("passbook_reports_ended_total",
                "kind" => kind, "state" => state.as_str())
            .increment(0);
        }
        for outcome in ["SUCCEEDED", "FAILED", "LOST", "HANDED_OVER", "CANCELLED"] {
            metrics::counter!("passbook_report_attempts_total",
                "kind" => kind, "outcome" => outcome)
            .increment(0);
        }
    }
    for outcome in ["taken", "refused"] {
        metrics::counter!("passbook_report_alert_tries_total", "outcome" => outcome).increment(0);
    }
    for format in Format::ALL {
        metrics::counter!("passbook_report_artifacts_bytes_total", "format" => format.as_str())
            .increment(0);
    }
    for outcome in ["ok", "error"] {
        metrics::counter!("passbook_report_renderer_requests_total", "outcome" => outcome)
            .increment(0);
    }
    for name in [
        "passbook_report_redrives_total",
        "passbook_report_redrive_errors_total",
        "passbook_report_orphans_deleted_total",
    ] {
        metrics::counter!(name).increment(0);
    }
}

/// Counts the end of an attempt, and the end of its report.
pub fn ended_attempt(kind: &str, outcome: &'static str, state: State, since: Option<Duration>) {
    let kind = Kind::parse(kind).map_or("other", Kind::as_str);
    metrics::counter!("passbook_report_attempts_total", "kind" => kind, "outcome" => outcome)
        .increment(1);
    if state.is_end() {
        ended(kind, state);
        if let Some(since) = since {
            metrics::histogram!("passbook_report_seconds", "kind" => kind)
                .record(since.as_secs_f64());
        }
    }
}

/// Counts the end of a report.
pub fn ended(kind: &'static str, state: State) {
    metrics::counter!("passbook_reports_ended_total", "kind" => kind, "state" => state.as_str())
        .increment(1);
}

/// Sets the gauges of the queue.
pub fn record_queue(due: &Due) {
    let number = |count: i64| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    metrics::gauge!("passbook_reports_queued").set(number(due.queued));
    metrics::gauge!("passbook_reports_running").set(number(due.running));
    metrics::gauge!("passbook_reports_oldest_queued_seconds").set(due.oldest_queued_seconds);
}
