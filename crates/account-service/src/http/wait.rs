//! Waits until a record is settled, for `Prefer: wait=N`.

use std::time::{Duration, Instant};

use contract::RecordId;

use super::Api;
use crate::{
    record::Record,
    waiters::{Notification, Wait},
};

/// Minimum time for reading the record, even at the end of a wait.
const SHORTEST_READ: Duration = Duration::from_secs(1);
/// Maximum time left to a wait once the process stops.
const DRAINING_WAIT: Duration = Duration::from_secs(1);

/// Waits for at most `patience`. Returns the settled record, or `None`. With
/// `read_first` the record is read before the wait, because it may have been settled
/// before `wait` began.
pub(super) async fn until_settled(
    api: &Api,
    record: &Record,
    mut wait: Wait,
    patience: Duration,
    read_first: bool,
) -> Option<Record> {
    let mut deadline = Instant::now() + patience;
    if read_first && let Some(settled) = read_settled(api, record.id, deadline).await {
        return Some(settled);
    }
    loop {
        let remaining = deadline.saturating_duration_since(Instant::now());
        tokio::select! {
            notification = wait.settled() => return match notification {
                Some(Notification { settlement, account_seq, at }) => Some(Record {
                    settlement: Some(settlement),
                    account_seq,
                    updated_at: at,
                    ..record.clone()
                }),
                // A failed read is not repeated: another one right afterwards would fail, too.
                None => read_settled(api, record.id, deadline).await,
            },
            () = tokio::time::sleep(remaining) => return None,
            () = api.limits.draining.cancelled(), if remaining > DRAINING_WAIT => {
                deadline = deadline.min(Instant::now() + DRAINING_WAIT);
            }
        }
    }
}

/// The record, if it is settled.
async fn read_settled(api: &Api, id: RecordId, deadline: Instant) -> Option<Record> {
    let remaining = deadline.saturating_duration_since(Instant::now());
    let read = api.lookup.record(id);
    match tokio::time::timeout(remaining.max(SHORTEST_READ), read).await.ok()? {
        Ok(record) => record.filter(|record| record.settlement.is_some()),
        Err(error) => {
            tracing::debug!(%error, record.id = %id, "reading an awaited record failed");
            None
        }
    }
}
