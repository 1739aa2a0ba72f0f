//! Watches the broker's `max_payload`. An operator can lower it below the size of a single message,
//! and raise it again. A client learns of either at its next connection only: the server announces
//! no change. After a lowering, the server closes the connection of the first message above the
//! limit. After a raise nothing would happen, so the watch connects again from time to time.

use std::time::{Duration, Instant};

use async_nats::{Client, connection::State};
use contract::bundle::LEAST_MAX_PAYLOAD;
use tokio_util::sync::CancellationToken;

use crate::{health::Health, tasks::sleep_unless_stopped};

/// The condition about it.
pub(crate) const CONDITION: &str = "max-payload";
const EVERY: Duration = Duration::from_secs(1);
/// The pause between connections while the limit is too low.
const RECONNECT_EVERY: Duration = Duration::from_secs(15);

/// Sets the condition, and connects again while the limit is too low, until `stop`.
pub(crate) async fn watch(health: Health, client: Client, stop: CancellationToken) {
    let mut last_reconnect = Instant::now();
    while sleep_unless_stopped(EVERY, &stop).await {
        if client.connection_state() != State::Connected {
            continue;
        }
        let finding = finding(client.max_payload());
        let is_too_low = finding.is_some();
        health.set(CONDITION, finding);
        if is_too_low && last_reconnect.elapsed() >= RECONNECT_EVERY {
            last_reconnect = Instant::now();
            if let Err(error) = client.force_reconnect().await {
                tracing::debug!(%error, "connecting again failed");
            }
        }
    }
}

/// Advice about a limit below the least.
fn finding(max_payload: usize) -> Option<String> {
    (max_payload < LEAST_MAX_PAYLOAD).then(|| {
        format!(
            "the broker's max_payload is {max_payload} bytes, and messages need \
             {LEAST_MAX_PAYLOAD}: raise it in the configuration of nats-server"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_limit_below_the_least_is_a_finding() {
        assert_eq!(finding(LEAST_MAX_PAYLOAD), None);
        let text = finding(256).unwrap();
        assert!(text.contains("256") && text.contains("raise"), "{text}");
    }
}
