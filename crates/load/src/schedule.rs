//! When each request is due.
//!
//! The runtime's own timer is exact to a millisecond only, and late when the
//! runtime is busy. So an open loop is paced by a thread of its own, which only
//! lets go of tickets. It looks once a [`TICK`]: waking up for each request took
//! a third of all processor time of the load, from what is measured. That a
//! request goes out late counts as its latency.

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

/// Between looks at what is due.
const TICK: Duration = Duration::from_millis(1);

/// Says when the next request is due.
#[derive(Debug)]
pub(crate) enum Schedule {
    /// At once, until this time.
    Closed { until: Instant },
    /// At its own time.
    Open(Arc<Tickets>),
}

#[derive(Debug)]
pub(crate) struct Tickets {
    begun: Instant,
    interval: Duration,
    most: u64,
    taken: AtomicU64,
    due: Semaphore,
}

impl Schedule {
    /// Begins now.
    pub(crate) fn begin(pace: Pace, time: Duration) -> Self {
        let begun = Instant::now();
        let Pace::Open { rate, connections } = pace else {
            return Self::Closed { until: begun + time };
        };
        let interval = Duration::from_secs_f64(1.0 / rate.max(0.001));
        let most = u64::try_from(time.as_nanos() / interval.as_nanos().max(1)).unwrap_or(u64::MAX);
        let (taken, due) = (AtomicU64::new(0), Semaphore::new(0));
        let tickets = Arc::new(Tickets { begun, interval, most, taken, due });
        let paced = Arc::clone(&tickets);
        thread::spawn(move || paced.release(connections));
        Self::Open(tickets)
    }

    /// Waits until the next request is due, and gives when that was: in a
    /// closed loop now, in an open one its own time, however late it is.
    /// `None` when none is to be sent any more.
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
        (number < self.most).then(|| self.time_of(number))
    }

    fn time_of(&self, number: u64) -> Instant {
        let nanos = self.interval.as_nanos().saturating_mul(number.into());
        self.begun + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Lets go of each ticket when it is due, and in the end of one more for
    /// each connection, which tells it to end.
    fn release(&self, connections: u16) {
        let mut number = 0;
        while number < self.most {
            thread::sleep(self.time_of(number).saturating_duration_since(Instant::now()).max(TICK));
            let mut due = 0;
            while number < self.most && self.time_of(number) <= Instant::now() {
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
    async fn an_open_loop_has_a_ticket_for_each_time_and_then_none() {
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
