//! What the metrics of this service mean. Those that every service has are
//! described in `runtime`.

use contract::Kind;
use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

use crate::results;

/// Describes them, and lets counters begin at zero: the first of a kind would
/// be missed by whoever asks for an increase.
pub fn describe() {
    describe_histogram!(
        "passbook_http_request_seconds",
        Unit::Seconds,
        "From a request's head until its answer is made, the client's own wait (Prefer) included."
    );
    describe_counter!("passbook_records_accepted_total", Unit::Count, "Records stored as PENDING.");
    describe_counter!("passbook_records_settled_total", Unit::Count, "PENDING records settled.");
    describe_histogram!(
        "passbook_settle_seconds",
        Unit::Seconds,
        "From a record's acceptance, by this service's clock, to its settling, by the database's."
    );
    describe_gauge!(
        "passbook_records_pending",
        Unit::Count,
        "PENDING records older than PASSBOOK_REDRIVE_AFTER, as this replica last counted them: take the largest."
    );
    describe_gauge!(
        "passbook_records_pending_oldest_seconds",
        Unit::Seconds,
        "Age of the oldest of those, 0 if there is none: take the largest."
    );
    describe_counter!("passbook_redrives_total", Unit::Count, "Commands sent again.");
    describe_counter!("passbook_redrive_errors_total", Unit::Count, "Rounds that failed.");
    describe_histogram!(
        "passbook_redrive_round_seconds",
        Unit::Seconds,
        "A round: a look for PENDING records, and their commands sent again."
    );
    describe_counter!(
        "passbook_commands_unsent_total",
        Unit::Count,
        "Commands that got no PubAck in time, or found no room, and were left to the redrive."
    );
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
    results::measure(&[], &[]);
}
