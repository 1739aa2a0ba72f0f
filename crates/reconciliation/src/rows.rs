//! A time limit for statements that may run for long.

use std::{future::Future, io, time::Duration};

use futures::{TryStream, TryStreamExt};

/// Time limit for the next row. It is above the longest `statement_timeout`, because a
/// statement may sort a whole table before its first row. Without it, a read from a host
/// that vanished would never end.
const ROW_LIMIT: Duration = Duration::from_secs(16 * 60);

/// Awaits an answer of a database within the limit for a row.
///
/// # Errors
/// The database's error, or no answer in time.
pub async fn answered<T>(answer: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    tokio::time::timeout(ROW_LIMIT, answer).await.unwrap_or_else(|_| {
        let text = format!("no answer within {ROW_LIMIT:?}");
        Err(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, text)))
    })
}

/// The next row; `None` after the last one.
///
/// # Errors
/// As [`answered`].
pub async fn next<T>(
    rows: &mut (impl TryStream<Ok = T, Error = sqlx::Error> + Unpin),
) -> sqlx::Result<Option<T>> {
    answered(rows.try_next()).await
}
