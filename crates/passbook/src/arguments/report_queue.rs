//! The queue of reports, as the report-service is configured.

use std::time::Duration;

use clap::Args;
use contract::{ReportQueue, StreamStorage, Topology};

/// The configured names and limits of report jobs. They have the variables of the report-service,
/// because other values than the defaults are no drift.
#[derive(Debug, Clone, Args)]
pub(crate) struct ReportQueueArguments {
    /// Name of the stream of report jobs, as the report-service is configured.
    #[arg(
        long = "report-stream",
        value_name = "NAME",
        env = "PASSBOOK_REPORT_STREAM",
        value_parser = ReportQueue::parse_stream,
        default_value = ReportQueue::DEFAULT.stream
    )]
    stream: String,
    /// Subject of report jobs, as the report-service is configured.
    #[arg(
        long = "report-subject",
        value_name = "SUBJECT",
        env = "PASSBOOK_REPORT_SUBJECT",
        value_parser = ReportQueue::parse_subject,
        default_value = ReportQueue::DEFAULT.subject
    )]
    subject: String,
    /// Durable name of the consumer of report jobs, as the report-service is configured.
    #[arg(
        id = "report_consumer",
        long = "report-consumer",
        value_name = "NAME",
        env = "PASSBOOK_REPORT_CONSUMER",
        value_parser = ReportQueue::parse_consumer,
        default_value = ReportQueue::DEFAULT.consumer
    )]
    consumer: String,
    /// Maximum age of a message, as the report-service is configured.
    #[arg(
        long = "report-max-age",
        value_name = "AGE",
        env = "PASSBOOK_REPORT_MAX_AGE",
        value_parser = ReportQueue::parse_max_age,
        default_value = "7d"
    )]
    max_age: Duration,
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

impl ReportQueueArguments {
    /// The expected streams and consumers with this storage. A command makes them once.
    pub(crate) fn topology(&self, storage: StreamStorage) -> &'static Topology {
        let queue = ReportQueue {
            stream: self.stream.clone().leak(),
            subject: self.subject.clone().leak(),
            consumer: self.consumer.clone().leak(),
            max_age: self.max_age,
            ack_wait: self.ack_wait,
            max_deliver: i64::from(self.max_failures),
            max_ack_pending: i64::from(self.max_running),
        };
        Topology::leak(queue, storage)
    }
}
