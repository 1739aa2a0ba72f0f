//! Waits that end.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// More than anything here takes.
const LONGEST: Duration = Duration::from_secs(300);
/// Between looks: none of them is what is measured.
const LOOK: Duration = Duration::from_millis(100);

/// Asks until the answer is yes.
///
/// # Errors
/// When it is not within five minutes.
pub(crate) async fn until(what: &str, mut so: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !so().await? {
        ensure!(begun.elapsed() < LONGEST, "not within {LONGEST:?}: {what}");
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}
