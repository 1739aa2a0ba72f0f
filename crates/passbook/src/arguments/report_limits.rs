//! The limits of report jobs, as the report-service is configured.

use std::time::Duration;

use clap::Args;
use contract::{ConsumerSpec, consumers};

/// The configured limits of report jobs. They have the variables of the report-service, because
/// other values than the defaults are no drift.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct ReportLimits {
    /// Maximum reports that run at the same time, as the report-service is configured.
    #[arg(
        long = "report-max-ack-pending",
        value_name = "NUMBER",
        env = "PASSBOOK_REPORT_MAX_ACK_PENDING",
        default_value_t = 1
    )]
    pub(crate) max_running: u16,
    /// Failed attempts until a report is FAILED, as the report-service is configured.
    #[arg(
        long = "report-max-deliver",
        value_name = "NUMBER",
        env = "PASSBOOK_REPORT_MAX_DELIVER",
        default_value_t = 5
    )]
    pub(crate) max_failures: u16,
    /// The longest silence of a report's worker, as the report-service is configured.
    #[arg(
        long = "report-ack-wait",
        value_name = "DURATION",
        env = "PASSBOOK_REPORT_ACK_WAIT",
        default_value = "30s",
        value_parser = humantime::parse_duration
    )]
    ack_wait: Duration,
}

impl ReportLimits {
    /// The expected configuration of a consumer.
    pub(crate) fn expected(&self, spec: &ConsumerSpec) -> ConsumerSpec {
        if spec.name != consumers::JOB {
            return *spec;
        }
        ConsumerSpec {
            ack_wait: self.ack_wait,
            max_deliver: i64::from(self.max_failures),
            max_ack_pending: i64::from(self.max_running),
            ..*spec
        }
    }
}
