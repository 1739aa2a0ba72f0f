//! The settings of the queue of reports. The tools that create or check the queue read
//! the same variables.

use std::time::Duration;

use anyhow::ensure;
use clap::Args;
use contract::ReportQueue;
use runtime::setting::parse_duration;

/// The stream, its consumer and the fetches of a worker.
#[derive(Debug, Clone, Args)]
pub struct QueueConfig {
    /// Name of the stream of report jobs. Storage and retention are fixed: files, and a work queue.
    #[arg(long, env = "PASSBOOK_REPORT_STREAM", value_name = "NAME",
          value_parser = ReportQueue::parse_stream, default_value = ReportQueue::DEFAULT.stream)]
    pub report_stream: String,
    /// Subject of the messages that wake a worker.
    #[arg(long, env = "PASSBOOK_REPORT_SUBJECT", value_name = "SUBJECT",
          value_parser = ReportQueue::parse_subject, default_value = ReportQueue::DEFAULT.subject)]
    pub report_subject: String,
    /// Durable name of the stream's consumer.
    #[arg(long, env = "PASSBOOK_REPORT_CONSUMER", value_name = "NAME",
          value_parser = ReportQueue::parse_consumer, default_value = ReportQueue::DEFAULT.consumer)]
    pub report_consumer: String,
    /// The stream removes a message at this age: 1h to 365d. A report in the database outlives its
    /// message, and gets another one.
    #[arg(long, env = "PASSBOOK_REPORT_MAX_AGE", value_name = "AGE",
          value_parser = ReportQueue::parse_max_age, default_value = "7d")]
    pub report_max_age: Duration,
    /// How long a fetch of the worker waits for a message: 1s to 5m, and shorter than the grace
    /// period, because a stop waits for it.
    #[arg(long, env = "PASSBOOK_REPORT_FETCH_WAIT", value_parser = parse_duration, value_name = "DURATION", default_value = "5s")]
    pub report_fetch_wait: Duration,
    /// Maximum reports that run at the same time, whatever the number of replicas: 1 to 100.
    #[arg(long, env = "PASSBOOK_REPORT_MAX_ACK_PENDING", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(1..=100))]
    pub report_max_ack_pending: u16,
    /// Failed attempts until a report is FAILED and an alert is sent: 1 to 100.
    #[arg(long, env = "PASSBOOK_REPORT_MAX_DELIVER", default_value_t = 5,
          value_parser = clap::value_parser!(u16).range(1..=100))]
    pub report_max_deliver: u16,
    /// A worker that is silent for longer has lost its report: 1s to 60m.
    #[arg(long, env = "PASSBOOK_REPORT_ACK_WAIT", value_parser = parse_duration, value_name = "DURATION", default_value = "30s")]
    pub report_ack_wait: Duration,
}

impl QueueConfig {
    /// Rejects durations out of bounds.
    ///
    /// # Errors
    /// The first one, by name.
    pub(crate) fn check(&self, grace_period: Duration) -> anyhow::Result<()> {
        let seconds = self.report_ack_wait.as_secs();
        ensure!((1..=3600).contains(&seconds), "PASSBOOK_REPORT_ACK_WAIT must be 1s to 60m");
        let wait = self.report_fetch_wait;
        ensure!(
            (Duration::from_secs(1)..=Duration::from_secs(300)).contains(&wait),
            "PASSBOOK_REPORT_FETCH_WAIT must be 1s to 5m"
        );
        ensure!(
            wait < grace_period,
            "PASSBOOK_REPORT_FETCH_WAIT ({wait:?}) must be shorter than PASSBOOK_GRACE_PERIOD \
             ({grace_period:?}): a stop waits for the fetch"
        );
        Ok(())
    }

    /// The queue. Its names stay in memory: a process makes one, when it starts.
    pub(crate) fn queue(&self) -> ReportQueue {
        ReportQueue {
            stream: self.report_stream.clone().leak(),
            subject: self.report_subject.clone().leak(),
            consumer: self.report_consumer.clone().leak(),
            max_age: self.report_max_age,
            ack_wait: self.report_ack_wait,
            max_deliver: i64::from(self.report_max_deliver),
            max_ack_pending: i64::from(self.report_max_ack_pending),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Settings {
        #[command(flatten)]
        queue: QueueConfig,
    }

    fn parse(arguments: &[&str]) -> QueueConfig {
        Settings::parse_from([&["report-service"], arguments].concat()).queue
    }

    #[test]
    fn without_settings_the_queue_is_that_of_the_contract() {
        let queue = parse(&[]);
        assert_eq!(queue.queue(), ReportQueue::DEFAULT);
        assert_eq!(queue.report_fetch_wait, Duration::from_secs(5));
        queue.check(Duration::from_secs(20)).unwrap();
    }

    #[test]
    fn a_fetch_ends_within_its_bounds_and_the_grace_period() {
        for (wait, grace, valid) in [
            ("1s", 20, true),
            ("19s", 20, true),
            ("5m", 301, true),
            ("999ms", 20, false),
            ("301s", 400, false),
            ("20s", 20, false),
        ] {
            let queue = parse(&["--report-fetch-wait", wait]);
            assert_eq!(queue.check(Duration::from_secs(grace)).is_ok(), valid, "{wait}");
        }
    }
}
