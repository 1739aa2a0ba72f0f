//! Accepts records in groups (group commit): one statement and one commit for
//! all that were asked for while the group before was written. Committed:
//! accepted. The commands go out after that.

use std::{slice, sync::Arc, time::Duration};

use runtime::{
    crash,
    postgres::is_transient,
    trace::{Commit, Trace},
};
use sqlx::PgPool;
use tokio::time::Instant;

use crate::{
    dispatch::Dispatch,
    group::{self, Answer, Asked, Asking, Waiting},
    record::NewRecord,
    store::{self, Accepted},
};

/// From so many records on it is worth a try to store all or none.
const TRIED: usize = 8;
/// After one that failed, so many groups are stored with care for keys that are
/// taken: clients that send requests again rarely do it once.
const CAREFUL: u32 = 100;
/// A group waits until there are as many as in the one before, but no longer
/// than this after that one was begun: under load, a commit for every second
/// record would take the time that the records need. Whoever was alone does not
/// wait.
const GATHERING: Duration = Duration::from_millis(2);
/// Longer than any statement may take: a database that is no more would be
/// waited for for ever.
const LONGEST_WRITE: Duration = Duration::from_secs(15);

/// What became of a record, or why nobody knows.
type Outcome = Result<Accepted, Arc<sqlx::Error>>;

type Request = (NewRecord, Trace);

/// Where records are accepted.
#[derive(Debug)]
pub struct Acceptance(Asking<Request, Outcome>);

/// Writes the records that come to an [`Acceptance`], one group at a time.
#[derive(Debug)]
pub struct Writer {
    asked: Asked<Request, Outcome>,
    pool: PgPool,
    dispatch: Dispatch,
    /// Groups that are to be stored with care.
    careful: u32,
}

/// Makes both ends.
#[must_use]
pub fn channel(pool: PgPool, dispatch: Dispatch) -> (Acceptance, Writer) {
    let (asking, asked) = group::channel();
    (Acceptance(asking), Writer { asked, pool, dispatch, careful: 0 })
}

impl Acceptance {
    /// Stores a record, unless its key is taken. Committed when this returns.
    ///
    /// # Errors
    /// The database's. After an error, or when this is dropped before it
    /// returned, the record may be stored all the same: the same key finds it.
    pub async fn accept(&self, record: NewRecord, trace: Trace) -> Outcome {
        self.bring(record, trace).await?.committed().await
    }

    /// Brings a record to be stored, and does not wait until it is.
    ///
    /// # Errors
    /// If nobody is there to store it.
    pub async fn bring(
        &self,
        record: NewRecord,
        trace: Trace,
    ) -> Result<Accepting, Arc<sqlx::Error>> {
        self.0.bring((record, trace)).await.map(Accepting).ok_or_else(nobody)
    }
}

/// A record that was brought to be stored.
#[derive(Debug)]
pub struct Accepting(Answer<Outcome>);

impl Accepting {
    /// Committed when this returns; see [`Acceptance::accept`].
    ///
    /// # Errors
    /// As there.
    pub async fn committed(self) -> Outcome {
        self.0.await.unwrap_or_else(|| Err(nobody()))
    }
}

fn nobody() -> Arc<sqlx::Error> {
    Arc::new(sqlx::Error::WorkerCrashed)
}

impl Writer {
    /// Writes until the [`Acceptance`] is gone and all was written.
    pub async fn run(mut self) {
        let (mut expected, mut latest) = (1, Instant::now());
        while let Some((requests, waiting)) = self.asked.gather(expected, latest).await {
            (expected, latest) = (requests.len(), Instant::now() + GATHERING);
            let (records, traces): (Vec<_>, Vec<_>) = requests.into_iter().unzip();
            match self.store(&records, &traces).await {
                Err(error) if records.len() > 1 && !is_transient(&error) => {
                    tracing::warn!(%error, records = records.len(), "a group failed; taking its records one by one");
                    for ((record, trace), waiting) in records.iter().zip(traces).zip(waiting) {
                        let stored = self.store(slice::from_ref(record), &[trace]).await;
                        self.answer(stored, &[trace], vec![waiting]);
                    }
                }
                stored => self.answer(stored, &traces, waiting),
            }
            self.dispatch.room(group::MOST).await;
        }
    }

    async fn store(
        &mut self,
        records: &[NewRecord],
        traces: &[Trace],
    ) -> sqlx::Result<Vec<Accepted>> {
        let commit = Commit::begin("INSERT", "transaction_records");
        let stored = tokio::time::timeout(LONGEST_WRITE, async {
            if records.len() >= TRIED && self.careful == 0 {
                if let Some(accepted) = store::accept_all(&self.pool, records, traces).await? {
                    return Ok(accepted);
                }
                self.careful = CAREFUL;
            }
            self.careful = self.careful.saturating_sub(1);
            store::accept(&self.pool, records, traces).await
        });
        let stored = stored.await.unwrap_or(Err(sqlx::Error::PoolTimedOut));
        commit.end(records.len(), traces.iter(), stored.as_ref().err());
        stored
    }

    /// Sends the commands of new records on their way, and tells who waits.
    fn answer(
        &self,
        stored: sqlx::Result<Vec<Accepted>>,
        traces: &[Trace],
        waiting: Vec<Waiting<Outcome>>,
    ) {
        let accepted = match stored {
            Ok(accepted) => accepted,
            Err(error) => {
                let error = Arc::new(error);
                waiting.into_iter().for_each(|it| it.answer(Err(Arc::clone(&error))));
                return;
            }
        };
        crash::point("accept.committed", &accepted);
        let new = accepted.iter().zip(traces).filter_map(|(accepted, trace)| match accepted {
            Accepted::New(record) => Some((record, trace)),
            _ => None,
        });
        self.dispatch.send(new.map(|(record, trace)| {
            metrics::counter!("passbook_records_accepted_total", "type" => record.kind.as_str())
                .increment(1);
            (record.command(), *trace)
        }));
        crash::point("accept.dispatched", &accepted);
        for (accepted, waiting) in accepted.into_iter().zip(waiting) {
            waiting.answer(Ok(accepted));
        }
    }
}
