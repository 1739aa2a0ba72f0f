//! Waiting for what will come, without a bare sleep.

use std::{future::Future, time::Duration};

use tokio::time::Instant;

const EVERY: Duration = Duration::from_millis(50);

/// Asks until there is an answer; fails the test if there is none in time.
pub async fn eventually<T, F>(what: &str, within: Duration, mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + within;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        tokio::time::sleep(EVERY).await;
    }
}
