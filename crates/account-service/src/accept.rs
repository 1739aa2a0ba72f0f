//! Accepts records in batches (group commit): one statement and one commit store all
//! records that arrived while the previous batch was written. A committed record is
//! accepted. Its command is sent after the commit.

use std::{
    slice,
    time::{Duration, Instant},
};

use runtime::{
    failpoint,
    postgres::{CallError, PgPool, limited},
    telemetry::trace::{Commit, Trace},
};

use crate::{
    batcher::{self, Batcher, Batches, PendingResponse, Responder},
    dispatch::Dispatch,
    record::NewRecord,
    store::{self, Accepted, StoreError},
};

/// Minimum batch size for the all-or-nothing insert.
const MIN_ALL_OR_NOTHING: usize = 8;
/// Number of batches that use the insert that skips taken keys, after an
/// all-or-nothing insert failed on a taken key: clients rarely retry only once.
const SKIPPING_BATCHES: u32 = 100;
/// After a transaction held a key, later batches do not wait long for such keys for this time:
/// the client of that key repeats its request.
const SHORT_WAITS: Duration = Duration::from_secs(60);

type Request = (NewRecord, Trace);
/// The outcome of storing a record. After an error, it is unknown whether the record
/// is stored.
type AcceptResult = Result<Accepted, StoreError>;

/// Accepts records: the handle for the API.
#[derive(Debug)]
pub struct Acceptor(Batcher<Request, AcceptResult>);

/// Writes the queued records of an [`Acceptor`], one batch at a time.
#[derive(Debug)]
pub struct Writer {
    batches: Batches<Request, AcceptResult>,
    pool: PgPool,
    dispatch: Dispatch,
    /// Number of next batches that use the insert that skips taken keys.
    skipping: u32,
    /// Until then, a batch does not wait long for keys that other transactions insert.
    short_waits_until: Instant,
}

/// Creates both ends of the queue.
#[must_use]
pub fn channel(pool: PgPool, dispatch: Dispatch) -> (Acceptor, Writer) {
    let (batcher, batches) = batcher::channel();
    let writer = Writer { batches, pool, dispatch, skipping: 0, short_waits_until: Instant::now() };
    (Acceptor(batcher), writer)
}

impl Acceptor {
    /// Queues a record to be stored, unless its key is taken, without waiting for the
    /// commit. If this future is dropped, the record is not stored.
    ///
    /// # Errors
    /// [`StoreError::NotQueued`]
    pub async fn enqueue(
        &self,
        record: NewRecord,
        trace: Trace,
    ) -> Result<PendingAcceptance, StoreError> {
        self.0.enqueue((record, trace)).await.map(PendingAcceptance).ok_or(StoreError::NotQueued)
    }
}

/// A record that is queued to be stored.
#[derive(Debug)]
pub struct PendingAcceptance(PendingResponse<AcceptResult>);

impl PendingAcceptance {
    /// Waits for the commit.
    ///
    /// # Errors
    /// [`StoreError`]. After an error, or if this future is dropped, the record may
    /// still be stored ([`StoreError::stored_nothing`]). A retry with the same key finds it.
    pub async fn committed(self) -> AcceptResult {
        self.0.await.unwrap_or(Err(StoreError::Stopped))
    }
}

impl Writer {
    /// Writes until the [`Acceptor`] is dropped and the queue is empty.
    pub async fn run(mut self) {
        while let Some((requests, responders)) = self.batches.next().await {
            let (records, traces): (Vec<_>, Vec<_>) = requests.into_iter().unzip();
            let stored = self.store(&records, &traces).await;
            if stored.as_ref().is_err_and(StoreError::is_locked) {
                self.short_waits_until = Instant::now() + SHORT_WAITS;
            }
            match stored {
                Err(error) if records.len() > 1 && !error.is_transient() => {
                    tracing::warn!(%error, records = records.len(), "a batch failed; storing its records one by one");
                    for ((record, trace), responder) in records.iter().zip(traces).zip(responders) {
                        let stored = self.store(slice::from_ref(record), &[trace]).await;
                        self.respond(stored, &[trace], vec![responder]);
                    }
                }
                Err(error) if records.len() > 1 && error.is_locked() => {
                    tracing::warn!(%error, records = records.len(), "another transaction holds a key; storing each half of the batch alone");
                    self.store_apart(&records, &traces, responders).await;
                }
                stored => self.respond(stored, &traces, responders),
            }
            self.dispatch.wait_for_room(batcher::MAX_BATCH).await;
        }
    }

    /// Stores half of the records at a time, down to single ones, after another transaction
    /// held a key of one of them. Such a record is answered with the error.
    async fn store_apart(
        &self,
        records: &[NewRecord],
        traces: &[Trace],
        mut responders: Vec<Responder<AcceptResult>>,
    ) {
        let mut open = vec![(records, traces)];
        while let Some((records, traces)) = open.pop() {
            let commit = Commit::begin("INSERT", "transaction_records");
            let stored = limited(store::insert_unlocked(&self.pool, records, traces));
            let stored = stored.await.unwrap_or_else(|no_answer| Err(no_answer.into()));
            commit.end(records.len(), traces.iter(), stored.as_ref().err());
            if let Err(error) = &stored
                && error.is_locked()
                && records.len() > 1
            {
                let (first, second) = records.split_at(records.len() / 2);
                let (first_traces, second_traces) = traces.split_at(traces.len() / 2);
                open.extend([(second, second_traces), (first, first_traces)]);
                continue;
            }
            let rest = responders.split_off(records.len().min(responders.len()));
            self.respond(stored, traces, std::mem::replace(&mut responders, rest));
        }
    }

    async fn store(
        &mut self,
        records: &[NewRecord],
        traces: &[Trace],
    ) -> Result<Vec<AcceptResult>, StoreError> {
        let commit = Commit::begin("INSERT", "transaction_records");
        let stored = limited(async {
            if Instant::now() < self.short_waits_until {
                return store::insert_unlocked(&self.pool, records, traces).await;
            }
            if records.len() >= MIN_ALL_OR_NOTHING && self.skipping == 0 {
                if let Some(accepted) = store::insert_all(&self.pool, records, traces).await? {
                    return Ok(accepted.into_iter().map(Ok).collect());
                }
                self.skipping = SKIPPING_BATCHES;
            }
            self.skipping = self.skipping.saturating_sub(1);
            store::insert_free(&self.pool, records, traces).await
        });
        let stored = stored.await.unwrap_or_else(|no_answer| Err(no_answer.into()));
        commit.end(records.len(), traces.iter(), stored.as_ref().err());
        stored
    }

    /// Sends the commands of new records, and responds to all requests.
    fn respond(
        &self,
        stored: Result<Vec<AcceptResult>, StoreError>,
        traces: &[Trace],
        responders: Vec<Responder<AcceptResult>>,
    ) {
        let accepted = match stored {
            Ok(accepted) => accepted,
            Err(error) => {
                let responders = responders.into_iter();
                return responders.for_each(|responder| responder.respond(Err(error.clone())));
            }
        };
        failpoint::point("accept.committed", &accepted);
        let new = accepted.iter().zip(traces).filter_map(|(accepted, trace)| match accepted {
            Ok(Accepted::New(record)) => Some((record, trace)),
            _ => None,
        });
        self.dispatch.send(new.map(|(record, trace)| {
            metrics::counter!("passbook_records_accepted_total", "type" => record.kind.as_str())
                .increment(1);
            (record.command(), *trace)
        }));
        failpoint::point("accept.dispatched", &accepted);
        for (accepted, responder) in accepted.into_iter().zip(responders) {
            responder.respond(accepted);
        }
    }
}
