//! Waits with a time limit.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

const LIMIT: Duration = Duration::from_secs(300);
/// Interval between checks. It is too long for a measurement.
const INTERVAL: Duration = Duration::from_millis(100);

/// Waits until `condition` is true. `name` describes it in the error.
///
/// # Errors
/// The condition failed, or is not true within five minutes.
pub(crate) async fn until(
    name: &str,
    mut condition: impl AsyncFnMut() -> Result<bool>,
) -> Result<()> {
    let begun = Instant::now();
    while !condition().await? {
        ensure!(begun.elapsed() < LIMIT, "waiting for {name} timed out after {LIMIT:?}");
        tokio::time::sleep(INTERVAL).await;
    }
    Ok(())
}
