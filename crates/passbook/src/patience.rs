//! Waiting for what is not there yet: a server that starts at the same time, a
//! database that another job still migrates.

use std::{cell::RefCell, time::Duration};

use anyhow::{Error, Result, anyhow};
use backon::{ExponentialBuilder, Retryable};
use clap::Args;
use tokio::time::{Instant, timeout_at};

use crate::causes;

/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How long to wait for something.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Patience {
    /// How long to wait for what is not there yet, such as 5m.
    #[arg(long, value_name = "DURATION", env = "PASSBOOK_WAIT",
          value_parser = humantime::parse_duration, default_value = "0s")]
    wait: Duration,
}

impl Patience {
    /// Whether there is any.
    pub(crate) const fn is_some(&self) -> bool {
        !self.wait.is_zero()
    }

    /// Tries again until it succeeds or the time is over, also in the middle of
    /// an attempt. Says what is waited for, once for each reason.
    ///
    /// # Errors
    /// The last attempt's.
    pub(crate) async fn until<T, F: Future<Output = Result<T>>>(
        &self,
        what: &str,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T> {
        if !self.is_some() {
            return attempt().await;
        }
        let end = Instant::now() + self.wait;
        let pauses = ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(100))
            .with_max_delay(LONGEST_PAUSE)
            .without_max_times();
        let told = RefCell::new(String::new());
        let tell = |error: &Error, _| {
            let reason = causes(error);
            if *told.borrow() != reason {
                tracing::info!("waiting for {what}: {reason}");
                *told.borrow_mut() = reason;
            }
        };
        let tried = timeout_at(end, (|| attempt()).retry(pauses).notify(tell)).await;
        tried.unwrap_or_else(|_| {
            let reason = told.into_inner();
            let none = || anyhow!("no answer within {}", humantime::format_duration(self.wait));
            Err(if reason.is_empty() { none() } else { anyhow!(reason) })
        })
    }
}
