//! `Prefer: wait=N` (RFC 7240): the client would rather wait up to N seconds
//! for the settled record than ask again.

use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use contract::RecordId;

use super::Api;
use crate::{
    record::Record,
    settled::{News, Wait},
};

/// A look at the record may take this long, though the wait be shorter.
const SHORTEST_LOOK: Duration = Duration::from_secs(1);
/// What is left of a wait when the process is to end.
const LAST_MOMENTS: Duration = Duration::from_secs(1);

/// How long the client would wait, if it said so. A preference that can't be
/// read is ignored, as RFC 7240 section 2 says.
pub(super) fn wait(headers: &HeaderMap, longest: Duration) -> Option<Duration> {
    let preferences = headers.get_all("prefer").into_iter().filter_map(|it| it.to_str().ok());
    let seconds: u64 = preferences
        .flat_map(|line| line.split(','))
        .filter_map(|preference| preference.split(';').next()?.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("wait"))
        .and_then(|(_, value)| value.trim().trim_matches('"').parse().ok())?;
    Some(Duration::from_secs(seconds).min(longest))
}

/// Waits until a record is settled, or for so long. Gives the settled record,
/// or `None`. The wait may have begun after the news came: then `look_first`.
pub(super) async fn settled(
    api: &Api,
    record: &Record,
    mut news: Wait,
    patience: Duration,
    look_first: bool,
) -> Option<Record> {
    let mut deadline = Instant::now() + patience;
    if look_first && let Some(settled) = look(api, record.id, deadline).await {
        return Some(settled);
    }
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        tokio::select! {
            told = news.news() => return match told {
                Some(News { settlement, at }) => {
                    Some(Record { settlement: Some(settlement), updated_at: at, ..record.clone() })
                }
                // If it can't be read, looking again at once would not change that.
                None => look(api, record.id, deadline).await,
            },
            () = tokio::time::sleep(left) => return None,
            () = api.draining.cancelled(), if left > LAST_MOMENTS => {
                deadline = deadline.min(Instant::now() + LAST_MOMENTS);
            }
        }
    }
}

/// The record, if it is settled.
async fn look(api: &Api, id: RecordId, deadline: Instant) -> Option<Record> {
    let left = deadline.saturating_duration_since(Instant::now());
    match tokio::time::timeout(left.max(SHORTEST_LOOK), api.known.record(id)).await.ok()? {
        Ok(record) => record.filter(|record| record.settlement.is_some()),
        Err(error) => {
            tracing::debug!(%error, record.id = %id, "a waiting client's record");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_read_from_among_other_preferences_and_has_an_end() {
        let longest = Duration::from_secs(30);
        for (prefer, expected) in [
            ("wait=5", Some(5)),
            ("respond-async, wait=10", Some(10)),
            ("Wait = \"7\" ; x=y", Some(7)),
            ("wait=9999", Some(30)),
            ("wait=-1", None),
            ("wait", None),
            ("return=minimal", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("prefer", prefer.parse().unwrap());
            assert_eq!(wait(&headers, longest), expected.map(Duration::from_secs), "{prefer}");
        }
    }
}
