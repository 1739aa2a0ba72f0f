//! Retries until a deadline, for example while a server starts or another job migrates a database.

use std::{cell::RefCell, time::Duration};

use anyhow::{Error, Result, anyhow};
use backon::{ExponentialBuilder, Retryable};
use clap::Args;
use tokio::time::{Instant, timeout_at};

use crate::error_chain;

const MIN_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// How long to retry.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Retry {
    /// How long to wait for servers, databases or streams to become available, such as 5m.
    #[arg(long, value_name = "DURATION", env = "PASSBOOK_WAIT",
          value_parser = humantime::parse_duration, default_value = "0s")]
    wait: Duration,
}

impl Retry {
    /// Whether a failed attempt is repeated.
    pub(crate) const fn is_enabled(&self) -> bool {
        !self.wait.is_zero()
    }

    /// Repeats the attempt until it succeeds or the time is over. The deadline also cuts a running
    /// attempt short. Each new reason for waiting is logged once.
    ///
    /// # Errors
    /// The last attempt's.
    pub(crate) async fn until_ok<T, F: Future<Output = Result<T>>>(
        &self,
        name: &str,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T> {
        if !self.is_enabled() {
            return attempt().await;
        }
        let deadline = Instant::now() + self.wait;
        let pauses = ExponentialBuilder::new()
            .with_min_delay(MIN_PAUSE)
            .with_max_delay(MAX_PAUSE)
            .without_max_times();
        let last_reason = RefCell::new(String::new());
        let log = |error: &Error, _| {
            let reason = error_chain::describe(error);
            if *last_reason.borrow() != reason {
                tracing::info!("waiting for {name}: {reason}");
                *last_reason.borrow_mut() = reason;
            }
        };
        let result = timeout_at(deadline, (|| attempt()).retry(pauses).notify(log)).await;
        result.unwrap_or_else(|_| {
            let reason = last_reason.into_inner();
            Err(if reason.is_empty() {
                anyhow!("no answer within {}", humantime::format_duration(self.wait))
            } else {
                anyhow!(reason)
            })
        })
    }
}
