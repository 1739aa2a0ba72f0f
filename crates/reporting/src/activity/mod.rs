//! The figures of all accounts in one period, from any number of rows in bounded memory.
//!
//! The report reads the ledger in slices, each by one short statement, and rests between
//! them: deposits and withdrawals go on meanwhile ([`ActivityConfig`]). The rows of a final
//! period never change, so the slices need no common snapshot, and no long transaction
//! keeps dead rows from being removed. The number of rows is counted first, and the report
//! fails if it reads another number.
//!
//! Slices are ranges of ids, filtered by time. Ranges of times would follow the index of
//! times, but each would read all rows that this index does not summarize yet.
//!
//! All figures are exact, except percentiles of settlement times (three digits) and the
//! limits of unusual amounts (bins of 0.5%).
//!
//! The caller drives the report, saves its state between steps, and stops by not asking for
//! the next one:
//! ```no_run
//! # async fn example(ledger: reporting::Ledger, period: reporting::Period,
//! #     config: reporting::activity::ActivityConfig) -> Result<(), reporting::activity::ActivityError> {
//! let mut reader = reporting::activity::ActivityReader::new(&ledger, &period, config, None).await?;
//! while !reader.is_done() {
//!     reader.step().await?;
//!     println!("{:?}", reader.progress());
//! }
//! let document = reader.document("Issuer".to_owned());
//! # Ok(()) }
//! ```

mod amounts;
mod largest;
mod pace;
mod packed;
mod row;
mod settlement;
mod state;
mod store;
mod units;
mod volumes;

pub use pace::ActivityConfig;
pub use state::ActivityState;

use std::time::Duration;

use ledger_reader::{READ_LIMIT, limited};
use report_document::Activity;
use runtime::postgres::PgPool;
use rust_decimal::prelude::ToPrimitive;
use tokio::time::{Instant, sleep};

use self::{
    amounts::Usual,
    row::{AccountRow, LargeRow, Row},
    state::{Pass, Phase, VERSION},
    store::Slice,
    volumes::Days,
};
use crate::{Ledger, LedgerError, Period};

/// Time limit for the period to be final.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time limit for counting a part, above the statement's own limit.
const FIND_LIMIT: Duration = Duration::from_secs(65);
/// The period is counted in at most this many parts.
const MAX_PARTS: u32 = 32;
/// The shortest part that is counted.
const MIN_PART: time::Duration = time::Duration::HOUR;

/// Why an activity report failed.
#[derive(Debug, thiserror::Error)]
pub enum ActivityError {
    /// The period is not final yet.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The database's error, or an invalid row.
    #[error(transparent)]
    Database(#[from] anyhow::Error),
    /// Rows of the period came or went.
    #[error("the period had {counted} rows when they were counted, and {read} when they were read")]
    Changed {
        /// At first.
        counted: u64,
        /// Later.
        read: u64,
    },
}

impl From<sqlx::Error> for ActivityError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

/// How far an activity report is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActivityProgress {
    /// The current step, for a reader.
    pub step: &'static str,
    /// Rows read, in all passes.
    pub done: u64,
    /// Rows to read, in all passes. Zero while the rows are counted. It can grow: many
    /// accounts need more passes.
    pub total: u64,
}

/// Computes an activity report step by step.
#[derive(Debug)]
pub struct ActivityReader {
    pool: PgPool,
    period: Period,
    days: Days,
    config: ActivityConfig,
    state: ActivityState,
    /// From the state, once all amounts are known.
    usual: Option<Vec<Usual>>,
    /// The rest that the last step requires.
    rest: Duration,
}

/// The rows of a slice.
enum Part {
    All(Vec<Row>),
    Accounts(Vec<AccountRow>),
    Large(Vec<LargeRow>),
}

impl ActivityReader {
    /// Begins a report, or goes on with the state of an earlier attempt. Waits until the
    /// period is final. A state of another period or version is not used.
    ///
    /// # Errors
    /// [`ActivityError::Ledger`]
    pub async fn new(
        ledger: &Ledger,
        period: &Period,
        config: ActivityConfig,
        state: Option<ActivityState>,
    ) -> Result<Self, ActivityError> {
        let snapshot = ledger.snapshot(period.to(), PATIENCE).await?;
        snapshot.rollback().await?;
        let document = period.document();
        let state = state.filter(|state| state.version == VERSION && state.period == document);
        Ok(Self {
            pool: ledger.pool().clone(),
            period: period.clone(),
            days: Days::of(period),
            config,
            state: state.unwrap_or_else(|| ActivityState::new(document)),
            usual: None,
            rest: Duration::ZERO,
        })
    }

    /// Whether the document is complete.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state.phase == Phase::Done
    }

    /// How far the report is.
    #[must_use]
    pub fn progress(&self) -> ActivityProgress {
        self.state.progress()
    }

    /// The state between two steps. It takes some milliseconds to serialize, and some MiB
    /// if there are many accounts: save it every half a minute, not after each step.
    #[must_use]
    pub const fn state(&self) -> &ActivityState {
        &self.state
    }

    /// The document of a finished report, without an analysis. Incomplete before.
    #[must_use]
    pub fn document(&self, issuer: String) -> Activity {
        self.state.document(issuer, &self.period, &self.days)
    }

    /// Rests as the last step requires, then reads the next part. It can be cancelled by
    /// dropping the future: the state changes only after a part was read.
    ///
    /// # Errors
    /// [`ActivityError`]. The step can be tried again.
    pub async fn step(&mut self) -> Result<(), ActivityError> {
        sleep(self.rest).await;
        let begun = Instant::now();
        match self.state.phase {
            Phase::Find { part } => limited(FIND_LIMIT, self.find(part)).await?,
            Phase::Read { pass, next_id } => limited(READ_LIMIT, self.read(pass, next_id)).await?,
            Phase::Done => return Ok(()),
        }
        self.rest = self.config.rest_after(begun.elapsed());
        Ok(())
    }

    /// Counts the rows of one part of the period.
    async fn find(&mut self, part: u32) -> Result<(), ActivityError> {
        let length = self.period.to() - self.period.from();
        let parts = (length / MIN_PART).ceil().to_u32().unwrap_or(MAX_PARTS).clamp(1, MAX_PARTS);
        let bound = |part: u32| {
            if part == parts {
                self.period.to()
            } else {
                self.period.from() + length / parts * part
            }
        };
        let found = store::find(&self.pool, bound(part), bound(part + 1)).await?;
        self.state.found(found, part + 1 == parts);
        Ok(())
    }

    /// Reads one slice.
    async fn read(&mut self, pass: Pass, next_id: i64) -> Result<(), ActivityError> {
        let end = next_id.saturating_add(self.config.activity_slice.into());
        let slice = Slice { first: next_id, end, from: self.period.from(), to: self.period.to() };
        if self.usual.is_none() && pass == Pass::Unusual {
            self.usual = Some(self.state.usual());
        }
        let usual = self.usual.as_deref().unwrap_or_default();
        let part = match pass {
            Pass::Sum => Part::All(store::rows(&self.pool, slice).await?),
            Pass::Accounts => Part::Accounts(store::account_rows(&self.pool, slice).await?),
            Pass::Unusual => {
                Part::Large(store::large_rows(&self.pool, slice, &self.state.limits(usual)).await?)
            }
        };
        // A large gap between ids is skipped at once.
        let next_id =
            if part.is_empty() { store::next_id(&self.pool, end).await? } else { Some(end) };
        match part {
            Part::All(rows) => self.state.add(&rows, &self.days),
            Part::Accounts(rows) => self.state.add_accounts(&rows),
            Part::Large(rows) => self.state.add_large(&rows, usual),
        }
        match self.state.advance(pass, next_id) {
            Ok(()) => Ok(()),
            Err(changed) => {
                self.state = ActivityState::new(self.period.document());
                Err(changed)
            }
        }
    }
}

impl Part {
    fn is_empty(&self) -> bool {
        match self {
            Self::All(rows) => rows.is_empty(),
            Self::Accounts(rows) => rows.is_empty(),
            Self::Large(rows) => rows.is_empty(),
        }
    }
}
