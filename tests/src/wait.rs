//! Polling for a condition, in place of a bare sleep.

use std::{
    fmt::Display,
    future::{self, Future},
    time::Duration,
};

use runtime::postgres::PgPool;
use tokio::time::Instant;

/// Between two attempts of [`eventually`].
const INTERVAL: Duration = Duration::from_millis(50);

/// Polls every 50 ms until `attempt` gives a value; fails the test after `within`.
pub async fn eventually<T, F>(what: &str, within: Duration, mut attempt: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let mut attempt = || {
        let value = attempt();
        async { value.await.ok_or("") }
    };
    poll(what, within, INTERVAL, &mut attempt).await
}

/// Waits until a transaction of this application waits for a lock.
pub async fn for_lock(database: &PgPool, application: &str, within: Duration) {
    let waiting = "SELECT count(*) FROM pg_stat_activity
                   WHERE wait_event_type = 'Lock' AND application_name = $1";
    eventually("a transaction waits for the row", within, || async {
        let waiting = sqlx::query_scalar(waiting).bind(application);
        let waiting: i64 = waiting.fetch_one(database).await.unwrap();
        (waiting > 0).then_some(())
    })
    .await;
}

/// As [`eventually`], for a condition that needs no `await`.
pub async fn eventually_now<T>(
    what: &str,
    within: Duration,
    mut attempt: impl FnMut() -> Option<T>,
) -> T {
    eventually(what, within, || future::ready(attempt())).await
}

/// As [`eventually`], with an interval of the caller's choice. The failure shows the error of the
/// last attempt.
pub async fn poll<T, E, F>(
    what: &str,
    within: Duration,
    interval: Duration,
    mut attempt: impl FnMut() -> F,
) -> T
where
    E: Display,
    F: Future<Output = Result<T, E>>,
{
    let deadline = Instant::now() + within;
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) => {
                assert!(Instant::now() < deadline, "not within {within:?}: {what}\n{error}");
            }
        }
        tokio::time::sleep(interval).await;
    }
}
