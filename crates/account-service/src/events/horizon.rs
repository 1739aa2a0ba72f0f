//! How far the event log can be read without a gap.
//!
//! A position is taken before the commit. While a transaction with position 5 runs, another one
//! may commit position 6, and a consumer that has read 6 would never see 5. The horizon is below
//! every position that may still appear:
//!
//! 1. A statement reads the highest committed position, that of the newest event, and takes a new
//!    transaction id, the fence. A transaction has its id before it takes a position, and
//!    positions are taken in order: all that have taken positions up to the newest have lower ids
//!    than the fence.
//! 2. Once a later snapshot shows that all lower ids have ended, each position up to the newest is
//!    committed or will never be. It is the new horizon.
//!
//! The highest id of a snapshot (`pg_snapshot_xmax`) is no fence: it is the id after the last
//! *ended* transaction, and one that runs may have a higher id and a lower position. The last value
//! of the sequence would be no horizon: after a crash of PostgreSQL, the sequence may give values
//! again that no committed row has. The newest event is committed, so it is on disk, and the
//! sequence with it: a horizon survives a crash of PostgreSQL. A fence may not: its transaction
//! writes nothing. It is then above all ids, and another one is taken.
//!
//! A standby that is promoted without the last commits may lack the event at the horizon, or have
//! another one at its position. Each step looks, in the statement that it needs anyway: the horizon
//! begins again, and counts the loss. A reader that keeps a position compares the counts. The
//! statement that reads a page looks for the event again: the promotion may come in between.
//!
//! A long transaction that writes, in any database of the server, delays the horizon. No lock is
//! held, and no statement of the way of money waits.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use runtime::postgres::{PgPool, limited};
use tokio::sync::Mutex;

use crate::store::{self, EventMark, StoreError};

/// How long a reader waits for running transactions. A statement that settles takes milliseconds.
const PATIENCE: Duration = Duration::from_millis(100);
const POLL: Duration = Duration::from_millis(3);

/// The horizon of this replica. It moves while somebody reads.
#[derive(Debug)]
pub struct Horizon {
    pool: PgPool,
    state: Mutex<State>,
    losses: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// Each position up to that of this event is committed or will never be.
    safe: Option<EventMark>,
    waiting: Option<Waiting>,
    /// When the last step began.
    begun: Option<Instant>,
}

/// A horizon that is not reached yet.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    newest: EventMark,
    fence: i64,
    since: Instant,
}

/// How far the log can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    pub position: i64,
    /// The event at the horizon; `None` before the first one.
    pub event: Option<EventMark>,
    /// How often the database was found to have lost events. A position that was reached with
    /// another number of losses may be that of another event now.
    pub losses: u64,
}

impl Horizon {
    /// The horizon of the log in this database.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        metrics::describe_gauge!(
            "passbook_events_horizon_age_seconds",
            metrics::Unit::Seconds,
            "Time for which running transactions have held events back from readers, 0 without \
             any: moves while somebody reads events."
        );
        Self { pool, state: Mutex::default(), losses: AtomicU64::new(0) }
    }

    /// The losses until now, as in [`Reached`].
    #[must_use]
    pub fn losses(&self) -> u64 {
        self.losses.load(Ordering::Acquire)
    }

    /// The horizon now. It covers all events that were committed before the call. If an earlier
    /// transaction still runs after 100 ms, it stays below that one.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn advance(&self) -> Result<Reached, StoreError> {
        let asked = Instant::now();
        let mut state = self.state.lock().await;
        // Another reader has made a step since.
        if state.begun.is_some_and(|begun| begun >= asked) {
            return Ok(self.reached(&state));
        }
        let begun = Instant::now();
        self.step(&mut state, begun + PATIENCE).await?;
        state.begun = Some(begun);
        let age = state.waiting.map_or(Duration::ZERO, |waiting| waiting.since.elapsed());
        metrics::gauge!("passbook_events_horizon_age_seconds").set(age.as_secs_f64());
        Ok(self.reached(&state))
    }

    /// The state is locked: the number of losses is that of its position.
    fn reached(&self, state: &State) -> Reached {
        let position = state.safe.map_or(0, |event| event.position);
        Reached { position, event: state.safe, losses: self.losses() }
    }

    async fn step(&self, state: &mut State, deadline: Instant) -> Result<(), StoreError> {
        // An earlier step may wait still.
        let is_reached = self.reach(state, deadline).await?;
        let end = limited(store::find_log_end(&self.pool, state.safe, is_reached)).await??;
        if !end.has_known {
            tracing::error!(
                position = state.safe.map(|event| event.position),
                "an event that was read is not in the log any more: the database has lost \
                 committed transactions, as a standby does that is promoted before it has all of \
                 them"
            );
            *state = State::default();
            self.losses.fetch_add(1, Ordering::Release);
            return Ok(());
        }
        if let (Some(newest), Some(fence)) = (end.newest, end.fence) {
            state.waiting = Some(Waiting { newest, fence, since: Instant::now() });
            self.reach(state, deadline).await?;
        }
        Ok(())
    }

    /// Waits until the deadline for the end of the transactions below the fence. Gives whether
    /// there is nothing to wait for any more.
    async fn reach(&self, state: &mut State, deadline: Instant) -> Result<bool, StoreError> {
        loop {
            let Some(waiting) = state.waiting else { return Ok(true) };
            let now = limited(store::find_fence(&self.pool, waiting.newest)).await??;
            // The transaction of the fence has ended: its id is below the next one, unless the
            // server has lost it.
            if !now.has_event || now.next_id <= waiting.fence {
                state.waiting = None;
                return Ok(true);
            }
            if now.ended_below >= waiting.fence {
                state.safe = Some(waiting.newest);
                state.waiting = None;
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            tokio::time::sleep(POLL).await;
        }
    }
}
