//! The time limit of calls.

use std::time::Duration;

use tokio::task::spawn_blocking;

use crate::StorageError;

/// The longest time for one request of a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit(pub(crate) Duration);

impl Limit {
    /// Runs one call of `object_store`, its retries included.
    pub(crate) async fn run<T, E: Into<StorageError>>(
        self,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, StorageError> {
        // The client limits its requests itself; this also limits local disks and credentials.
        let limit = self.0.saturating_mul(3);
        match tokio::time::timeout(limit, call).await {
            Ok(result) => result.map_err(Into::into),
            Err(_) => Err(StorageError::Unavailable(format!("no answer within {limit:?}"))),
        }
    }

    pub(crate) async fn run_blocking<T: Send + 'static>(
        self,
        step: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        self.run(async {
            let ended = spawn_blocking(step).await;
            ended.unwrap_or_else(|error| Err(StorageError::Other(error.to_string())))
        })
        .await
    }
}
