//! Accepts records in groups (group commit): whoever asks while a group is
//! being written shares the next one, with one statement and one commit for
//! all. Nobody waits for others to come: alone, a record is a group of one.
//!
//! Committed: accepted. The commands go out after that.

use std::{slice, sync::Arc, time::Duration};

use runtime::{crash, postgres::is_transient, trace::Trace};
use sqlx::PgPool;
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::{
    dispatch::Dispatch,
    record::NewRecord,
    store::{self, Accepted},
};

/// Records that wait to be written; who brings more waits to bring them.
const CAPACITY: usize = 10_000;
/// Records in a group at most.
const GROUP: usize = 1000;
/// Groups that are written at the same time: while one is being committed, the
/// next is on its way.
const WRITERS: usize = 1;
/// Longer than any statement may take: a database that is no more would be
/// waited for for ever.
const LONGEST_WRITE: Duration = Duration::from_secs(15);

/// What became of a record, or why nobody knows.
type Outcome = Result<Accepted, Arc<sqlx::Error>>;

/// Where records are accepted.
#[derive(Debug, Clone)]
pub struct Acceptance(mpsc::Sender<Request>);

#[derive(Debug)]
struct Request {
    record: NewRecord,
    waiting: Waiting,
}

#[derive(Debug)]
struct Waiting {
    trace: Trace,
    answer: oneshot::Sender<Outcome>,
}

/// Writes the records that come to an [`Acceptance`].
#[derive(Debug, Clone)]
pub struct Writer {
    requests: Arc<Mutex<mpsc::Receiver<Request>>>,
    pool: PgPool,
    dispatch: Dispatch,
}

/// Makes both ends.
#[must_use]
pub fn channel(pool: PgPool, dispatch: Dispatch) -> (Acceptance, Writer) {
    let (sender, receiver) = mpsc::channel(CAPACITY);
    let requests = Arc::new(Mutex::new(receiver));
    (Acceptance(sender), Writer { requests, pool, dispatch })
}

impl Acceptance {
    /// Stores a record, unless its key is taken. Committed when this returns.
    ///
    /// # Errors
    /// The database's. After an error, or when this is dropped before it
    /// returned, the record may be stored all the same: the same key finds it.
    pub async fn accept(&self, record: NewRecord, trace: Trace) -> Outcome {
        let gone = || Arc::new(sqlx::Error::WorkerCrashed);
        let (answer, answered) = oneshot::channel();
        let request = Request { record, waiting: Waiting { trace, answer } };
        self.0.send(request).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

impl Writer {
    /// Writes until every [`Acceptance`] is gone and all was written.
    pub async fn run(self) {
        futures::future::join_all((0..WRITERS).map(|_| self.clone().write_groups())).await;
    }

    async fn write_groups(self) {
        let mut requests = Vec::with_capacity(GROUP);
        while self.requests.lock().await.recv_many(&mut requests, GROUP).await > 0 {
            // Who has gone meanwhile was told nothing: nothing is stored.
            let (records, waiting): (Vec<_>, Vec<_>) = requests
                .drain(..)
                .filter(|request| !request.waiting.answer.is_closed())
                .map(|request| (request.record, request.waiting))
                .unzip();
            if !records.is_empty() {
                self.write(&records, waiting).await;
            }
        }
    }

    /// Writes a group; its records one by one if that fails by one of them.
    async fn write(&self, records: &[NewRecord], waiting: Vec<Waiting>) {
        match self.store(records).await {
            Err(error) if records.len() > 1 && !is_transient(&error) => {
                tracing::warn!(%error, records = records.len(), "a group failed; taking its records one by one");
                for (record, waiting) in records.iter().zip(waiting) {
                    let stored = self.store(slice::from_ref(record)).await;
                    self.answer(vec![waiting], stored);
                }
            }
            stored => self.answer(waiting, stored),
        }
    }

    async fn store(&self, records: &[NewRecord]) -> sqlx::Result<Vec<Accepted>> {
        let stored = tokio::time::timeout(LONGEST_WRITE, store::accept(&self.pool, records));
        stored.await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    /// Sends the commands of new records on their way, and tells who waits.
    fn answer(&self, waiting: Vec<Waiting>, stored: sqlx::Result<Vec<Accepted>>) {
        let accepted = match stored {
            Ok(accepted) => accepted,
            Err(error) => {
                let error = Arc::new(error);
                for waiting in waiting {
                    let _ = waiting.answer.send(Err(Arc::clone(&error)));
                }
                return;
            }
        };
        crash::point("accept.committed", &accepted);
        for (accepted, waiting) in accepted.iter().zip(&waiting) {
            if let Accepted::New(record) = accepted {
                self.dispatch.send(&record.command(), waiting.trace.clone());
                metrics::counter!("passbook_records_accepted_total", "type" => record.kind.as_str())
                    .increment(1);
            }
        }
        crash::point("accept.dispatched", &accepted);
        for (accepted, waiting) in accepted.into_iter().zip(waiting) {
            let _ = waiting.answer.send(Ok(accepted));
        }
    }
}
