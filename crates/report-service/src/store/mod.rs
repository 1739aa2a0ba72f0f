//! The report-service's SQL. Times are those of the database's clock, so that leases
//! do not depend on the clocks of the replicas.

mod alerts;
mod artifacts;
mod attempts;
mod audit_log;
mod cancel;
mod claim;
mod error;
mod insert;
mod queue;
mod reports;
mod times;

pub use alerts::{
    DueAlert, claim_alerts, open_alerts, set_alert_failed, set_alert_taken, set_dead_lettered,
};
pub use artifacts::{
    Expired, artifact, artifacts_of, artifacts_of_all, expired, is_wanted, set_deleted,
};
pub use attempts::{Beat, Progress, Success, beat, end, expire_lost, succeed};
pub use audit_log::AuditAction;
pub use cancel::{Cancellation, cancel};
pub use claim::{Claim, claim};
pub use error::StoreError;
pub use insert::{Accepted, insert};
pub use queue::{Due, claim_unsent, due, exists, set_unsent};
pub use reports::{Filter, Glance, attempts_of, find, glance, list};
pub use times::cap_times;
