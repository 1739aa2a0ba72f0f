//! The requests without a valid token, counted for each client's address. A client that has sent
//! too many of them is refused before a signature is verified or a key is looked up.
//!
//! Only failures count: behind one address may be many clients with valid tokens. So this is not a
//! limiter of `governor`, which counts each attempt.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use quick_cache::sync::Cache;
use tokio::time::Instant;

use crate::http::{
    address::ClientNetwork,
    problem::{Problem, TOO_MANY_REQUESTS},
    refusal_log::Refusal,
};

/// So many seconds of failures are admitted at once.
const WINDOW_SECONDS: u32 = 5;
/// Clients that are remembered. Those without a failure for a long time are forgotten first.
const CLIENTS: usize = 10_000;

/// The failures of each client: a bucket of tokens, of which each failure takes one.
pub(super) struct Failures {
    a_second: u32,
    /// In which a token comes back.
    interval: u64,
    begun: Instant,
    /// When the bucket of a client is full again, in nanoseconds from the beginning.
    full: Cache<ClientNetwork, Arc<AtomicU64>>,
}

impl Failures {
    /// A limit of failures a second. 0: no limit.
    pub(super) fn new(a_second: u32) -> Option<Self> {
        let interval = Duration::from_secs(1).checked_div(a_second)?;
        let (interval, begun) = (nanoseconds(interval), Instant::now());
        Some(Self { a_second, interval, begun, full: Cache::new(CLIENTS) })
    }

    const fn burst(&self) -> u32 {
        self.a_second.saturating_mul(WINDOW_SECONDS)
    }

    fn now(&self) -> u64 {
        nanoseconds(self.begun.elapsed())
    }

    /// The time until a bucket without this number of tokens is full again.
    fn refill(&self, missing: u32) -> u64 {
        self.interval.saturating_mul(missing.into())
    }

    /// Whether another token of this client may be verified.
    ///
    /// # Errors
    /// `too-many-requests`
    pub(super) fn admit(&self, client: IpAddr) -> Result<(), Problem> {
        let full = self.full.get(&ClientNetwork::from(client));
        let full = full.map_or(0, |full| full.load(Ordering::Relaxed));
        if full <= self.now().saturating_add(self.refill(self.burst().saturating_sub(1))) {
            return Ok(());
        }
        let detail = format!(
            "This address has sent too many requests without a valid token or API key: {} a second \
             are allowed, {} at once. Nothing was stored.",
            self.a_second,
            self.burst()
        );
        Err(TOO_MANY_REQUESTS.because(detail).retry_after(1).refused(Refusal::Limited(client)))
    }

    /// Counts a failure of this client.
    pub(super) fn count(&self, client: IpAddr) {
        let client = ClientNetwork::from(client);
        let full = self.full.get(&client).unwrap_or_else(|| {
            let full = Arc::default();
            self.full.insert(client, Arc::clone(&full));
            full
        });
        let now = self.now();
        let most = now.saturating_add(self.refill(self.burst()));
        let later = |full: u64| Some(full.max(now).saturating_add(self.interval).min(most));
        let _ = full.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later);
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn each_address_has_its_failures_and_they_are_forgotten_in_time() {
        let failures = Failures::new(10).unwrap();
        let (one, neighbour, other) =
            (address("2001:db8::1"), address("2001:db8::2:1"), address("2001:db8:0:1::1"));
        for _ in 0..50 {
            failures.admit(one).unwrap();
            failures.count(one);
        }
        assert_eq!(failures.admit(one).unwrap_err().status(), 429);
        assert!(failures.admit(neighbour).is_err(), "the same /64");
        failures.admit(other).unwrap();
        // However many there are, the client waits for its next token only.
        (0..1000).for_each(|_| failures.count(one));
        tokio::time::advance(Duration::from_millis(100)).await;
        failures.admit(neighbour).unwrap();
        failures.count(neighbour);
        assert!(failures.admit(one).is_err());
        tokio::time::advance(Duration::from_secs(5)).await;
        for _ in 0..50 {
            failures.admit(one).unwrap();
            failures.count(one);
        }
        assert!(failures.admit(one).is_err());
    }

    #[tokio::test]
    async fn a_flood_from_many_addresses_takes_bounded_memory() {
        let failures = Failures::new(10).unwrap();
        for number in 0..u32::try_from(3 * CLIENTS).unwrap() {
            failures.count(std::net::Ipv4Addr::from_bits(number).into());
        }
        assert!(failures.full.len() <= CLIENTS, "{}", failures.full.len());
        assert!(Failures::new(0).is_none());
    }
}
