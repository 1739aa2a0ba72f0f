//! The worker: takes a message, claims the oldest due report, and makes one attempt.
//!
//! The row is the truth. Whatever happens to the message, the row says what is to be
//! done: the message is acked once the end of the attempt is committed, and the
//! redrive sends another one when the report is due again.

mod attempt;
mod control;
mod remote;
mod render;

use std::time::Duration;

use contract::{Job, ReportId};
use runtime::postgres::PgPool;
use runtime::{
    postgres::limited,
    tasks::sleep_unless_stopped,
    telemetry::trace::Trace,
    worker::{Delivery, Exhausted, JobHandler, JobVerdict},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

pub(crate) use attempt::AttemptError;
pub use attempt::Attempts;
pub(crate) use control::Control;
pub use remote::RemoteRenderer;
pub use render::Renderer;

use crate::store::{self, Claim, StoreError};

/// The pause before another look, while the database is away or another report runs.
const PAUSE: Duration = Duration::from_secs(1);

/// Claims reports.
#[derive(Debug)]
pub struct Reports {
    /// The database with the reports.
    pub pool: PgPool,
    /// The name of this worker in the attempts.
    pub worker: String,
    /// The duration of a lease. It must end before the server redelivers the message.
    pub lease: Duration,
    /// Maximum reports that run at the same time in the whole system.
    pub max_running: i64,
    /// Makes the attempts.
    pub attempts: Attempts,
}

impl JobHandler for Reports {
    async fn run(&self, delivery: &Delivery, stop: &CancellationToken) -> JobVerdict {
        let job = match Job::parse(&delivery.payload) {
            Ok(job) => job,
            Err(error) => return JobVerdict::DeadLetter(format!("not a report job: {error}")),
        };
        loop {
            match self.run_once(job.report_id, delivery, stop).await {
                Ok(Some(verdict)) => return verdict,
                // Another report runs. The message stays in progress, so that it keeps its place.
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "claiming a report failed; retrying"),
            }
            if !sleep_unless_stopped(PAUSE, stop).await {
                return JobVerdict::HandBack;
            }
        }
    }
}

impl Reports {
    /// `None` while other reports run.
    async fn run_once(
        &self,
        named: ReportId,
        delivery: &Delivery,
        stop: &CancellationToken,
    ) -> Result<Option<JobVerdict>, StoreError> {
        if !limited(store::exists(&self.pool, named)).await?? {
            return Ok(Some(JobVerdict::DeadLetter(format!("there is no report {named}"))));
        }
        if stop.is_cancelled() {
            return Ok(Some(JobVerdict::HandBack));
        }
        let claim = store::claim(&self.pool, &self.worker, self.lease, self.max_running);
        Ok(match limited(claim).await?? {
            Claim::Busy => None,
            Claim::NothingDue => Some(JobVerdict::Done),
            Claim::Claimed(claimed) => {
                // The trace of the request, which can be another one than the message's.
                let request = claimed.traceparent.as_deref().and_then(Trace::parse);
                let trace = request.unwrap_or(delivery.trace).child();
                let made = self.attempts.make(*claimed, trace, self.lease, stop);
                made.instrument(trace.log_span()).await;
                Some(JobVerdict::Done)
            }
        })
    }
}

/// Settles messages that reached `max_deliver`: their workers crashed. A known report
/// needs no dead letter of its message: the end of its lease counts as a failure, and
/// the redrive sends another message.
#[derive(Debug)]
pub struct ExhaustedJobs {
    /// The database with the reports.
    pub pool: PgPool,
}

impl Exhausted for ExhaustedJobs {
    async fn settle(
        &self,
        message: &async_nats::jetstream::message::StreamMessage,
        reason: String,
    ) -> anyhow::Result<Option<String>> {
        let Ok(job) = Job::parse(&message.payload) else { return Ok(Some(reason)) };
        if !limited(store::exists(&self.pool, job.report_id)).await?? {
            return Ok(Some(reason));
        }
        Ok(None)
    }
}
