//! Describes the metrics of this service. `runtime` describes the metrics common to
//! all services.

use contract::Kind;
use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

use crate::worker;

/// Describes the metrics, and starts counters at zero, so that the first event shows
/// as an increase.
pub fn describe() {
    describe_counter!("passbook_records_accepted_total", Unit::Count, "Records stored as PENDING.");
    describe_counter!("passbook_records_settled_total", Unit::Count, "PENDING records settled.");
    describe_histogram!(
        "passbook_settle_seconds",
        Unit::Seconds,
        "From a record's acceptance (this service's clock) to its settlement (the database's clock)."
    );
    describe_gauge!(
        "passbook_records_pending",
        Unit::Count,
        "PENDING records older than PASSBOOK_REDRIVE_AFTER, as last counted by this replica: use the maximum over replicas."
    );
    describe_gauge!(
        "passbook_records_pending_oldest_seconds",
        Unit::Seconds,
        "Age of the oldest PENDING record older than PASSBOOK_REDRIVE_AFTER, 0 without any: use the maximum over replicas."
    );
    describe_counter!("passbook_redrives_total", Unit::Count, "Redriven commands.");
    describe_counter!("passbook_redrive_errors_total", Unit::Count, "Failed redrive rounds.");
    describe_histogram!(
        "passbook_redrive_round_seconds",
        Unit::Seconds,
        "Duration of a redrive round: the scan for PENDING records, and sending their commands."
    );
    describe_counter!(
        "passbook_commands_unsent_total",
        Unit::Count,
        "Commands left to the redrive: no PubAck in time, or a full queue."
    );
    describe_gauge!("passbook_event_streams", Unit::Count, "Open streams of events.");
    for metric in [
        "passbook_redrives_total",
        "passbook_redrive_errors_total",
        "passbook_commands_unsent_total",
    ] {
        metrics::counter!(metric).increment(0);
    }
    for kind in Kind::ALL {
        metrics::counter!("passbook_records_accepted_total", "type" => kind.as_str()).increment(0);
    }
    worker::record_metrics(&[], &[]);
}
