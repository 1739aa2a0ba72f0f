//! How far the event log can be read without a gap.
//!
//! A position is taken before the commit. While a transaction with position 5 runs, another one
//! may commit position 6, and a consumer that has read 6 would never see 5. The horizon is below
//! every position that may still appear:
//!
//! 1. A statement reads the highest committed position `newest`, and takes a new transaction id,
//!    the fence. A transaction has its id before it takes a position, and positions are taken in
//!    order: all that have taken positions up to `newest` have lower ids than the fence.
//! 2. Once a later snapshot shows that all lower ids have ended, each position up to `newest` is
//!    committed or will never be. `newest` is the new horizon.
//!
//! The highest id of a snapshot (`pg_snapshot_xmax`) is no fence: it is the id after the last
//! *ended* transaction, and one that runs may have a higher id and a lower position. The last value
//! of the sequence would be no horizon: after a crash of PostgreSQL, the sequence may give values
//! again that no committed row has. `newest` is committed, so it is on disk, and the sequence
//! with it: a horizon, and a fence that is waited for, survive a crash of PostgreSQL.
//!
//! A long transaction that writes, in any database of the server, delays the horizon. No lock is
//! held, and no statement of the way of money waits.

use std::time::{Duration, Instant};

use runtime::postgres::{PgPool, limited};
use tokio::sync::Mutex;

use crate::store::{self, StoreError};

/// How long a reader waits for running transactions. A statement that settles takes milliseconds.
const PATIENCE: Duration = Duration::from_millis(100);
const POLL: Duration = Duration::from_millis(3);

/// The horizon of this replica. It moves while somebody reads.
#[derive(Debug)]
pub struct Horizon {
    pool: PgPool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Each position up to this one is committed or will never be.
    safe: i64,
    waiting: Option<Waiting>,
    /// When the last step began.
    begun: Option<Instant>,
}

/// A horizon that is not reached yet.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    newest: i64,
    fence: i64,
    since: Instant,
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
        Self { pool, state: Mutex::default() }
    }

    /// The horizon now. It covers all events that were committed before the call. If an earlier
    /// transaction still runs after 100 ms, it stays below that one.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn advance(&self) -> Result<i64, StoreError> {
        let asked = Instant::now();
        let mut state = self.state.lock().await;
        // Another reader has made a step since.
        if state.begun.is_some_and(|begun| begun >= asked) {
            return Ok(state.safe);
        }
        let begun = Instant::now();
        self.step(&mut state, begun + PATIENCE).await?;
        state.begun = Some(begun);
        let age = state.waiting.map_or(Duration::ZERO, |waiting| waiting.since.elapsed());
        metrics::gauge!("passbook_events_horizon_age_seconds").set(age.as_secs_f64());
        Ok(state.safe)
    }

    async fn step(&self, state: &mut State, deadline: Instant) -> Result<(), StoreError> {
        // An earlier step may wait still.
        if !self.reach(state, deadline).await? {
            return Ok(());
        }
        let end = limited(store::find_log_end(&self.pool, state.safe)).await??;
        if end.newest < state.safe {
            tracing::error!(
                "the event log ends earlier than before: the database has lost committed \
                 transactions, as a standby does that is promoted before it has all of them"
            );
            *state = State::default();
            return Ok(());
        }
        if let Some(fence) = end.fence {
            state.waiting = Some(Waiting { newest: end.newest, fence, since: Instant::now() });
            self.reach(state, deadline).await?;
        }
        Ok(())
    }

    /// Waits until the deadline for the end of the transactions below the fence.
    async fn reach(&self, state: &mut State, deadline: Instant) -> Result<bool, StoreError> {
        loop {
            let Some(waiting) = state.waiting else { return Ok(true) };
            if limited(store::ended_below(&self.pool)).await?? >= waiting.fence {
                state.safe = waiting.newest;
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
