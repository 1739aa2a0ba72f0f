//! The due times of the requests.
//!
//! The runtime's timer is exact only to a millisecond, and late while the
//! runtime is busy. A separate thread therefore paces an open loop, and does
//! nothing but release tickets. It wakes once per [`TICK`]: a wake-up for each
//! request took a third of the load's processor time away from the measured
//! system. A late start counts as latency of the request.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

use crate::Pace;

/// Minimum time between two wake-ups of the pacing thread.
const TICK: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub(crate) enum Schedule {
    /// Each request is due at once, until this time.
    Closed { until: Instant },
    /// Each request is due at its own time.
    Open(Arc<Tickets>),
}

/// One ticket for each request of an open loop.
#[derive(Debug)]
pub(crate) struct Tickets {
    begun: Instant,
    interval: Duration,
    /// Number of requests.
    total: u64,
    taken: AtomicU64,
    due: Semaphore,
}

impl Schedule {
    /// Starts now. An open loop starts a thread.
    pub(crate) fn begin(pace: Pace, duration: Duration) -> Self {
        let begun = Instant::now();
        let Pace::Open { rate, connections } = pace else {
            return Self::Closed { until: begun + duration };
        };
        let interval = Duration::from_secs_f64(1.0 / rate.max(0.001));
        let total =
            u64::try_from(duration.as_nanos() / interval.as_nanos().max(1)).unwrap_or(u64::MAX);
        let (taken, due) = (AtomicU64::new(0), Semaphore::new(0));
        let tickets = Arc::new(Tickets { begun, interval, total, taken, due });
        let pacer = Arc::clone(&tickets);
        thread::spawn(move || pacer.release(connections));
        Self::Open(tickets)
    }

    /// Waits until the next request is due, and returns its due time: now in a
    /// closed loop, possibly earlier in an open loop. `None`: all requests are
    /// sent.
    pub(crate) async fn next(&self) -> Option<Instant> {
        match self {
            Self::Closed { until } => Some(Instant::now()).filter(|now| now < until),
            Self::Open(tickets) => tickets.next().await,
        }
    }
}

impl Tickets {
    async fn next(&self) -> Option<Instant> {
        self.due.acquire().await.ok()?.forget();
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        (number < self.total).then(|| self.due_time(number))
    }

    fn due_time(&self, number: u64) -> Instant {
        let nanos = self.interval.as_nanos().saturating_mul(number.into());
        self.begun + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Releases each ticket when it is due, and then one more for each
    /// connection as its sign to end.
    fn release(&self, connections: u16) {
        let mut number = 0;
        while number < self.total {
            thread::sleep(
                self.due_time(number).saturating_duration_since(Instant::now()).max(TICK),
            );
            let mut due = 0;
            while number < self.total && self.due_time(number) <= Instant::now() {
                (number, due) = (number + 1, due + 1);
            }
            self.due.add_permits(due);
        }
        self.due.add_permits(connections.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_open_loop_has_a_ticket_for_each_due_time_and_then_none() {
        let pace = Pace::Open { rate: 1_000.0, connections: 1 };
        let schedule = Schedule::begin(pace, Duration::from_millis(50));
        let mut times = Vec::new();
        while let Some(due) = schedule.next().await {
            assert!(due <= Instant::now());
            times.push(due);
        }
        assert_eq!(times.len(), 50);
        assert_eq!(times[49] - times[0], Duration::from_millis(49));
    }
}
