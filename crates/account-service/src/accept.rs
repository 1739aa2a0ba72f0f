//! Accepts records in batches (group commit): one statement and one commit store all
//! records that arrived while the previous batch was written. A committed record is
//! accepted. Its command is sent after the commit.

use std::slice;

use runtime::postgres::PgPool;
use runtime::{
    failpoint,
    postgres::limited,
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
}

/// Creates both ends of the queue.
#[must_use]
pub fn channel(pool: PgPool, dispatch: Dispatch) -> (Acceptor, Writer) {
    let (batcher, batches) = batcher::channel();
    (Acceptor(batcher), Writer { batches, pool, dispatch, skipping: 0 })
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
            match self.store(&records, &traces).await {
                Err(error) if records.len() > 1 && !error.is_transient() => {
                    tracing::warn!(%error, records = records.len(), "a batch failed; storing its records one by one");
                    for ((record, trace), responder) in records.iter().zip(traces).zip(responders) {
                        let stored = self.store(slice::from_ref(record), &[trace]).await;
                        self.respond(stored, &[trace], vec![responder]);
                    }
                }
                stored => self.respond(stored, &traces, responders),
            }
            self.dispatch.wait_for_room(batcher::MAX_BATCH).await;
        }
    }

    async fn store(
        &mut self,
        records: &[NewRecord],
        traces: &[Trace],
    ) -> Result<Vec<Accepted>, StoreError> {
        let commit = Commit::begin("INSERT", "transaction_records");
        let stored = limited(async {
            if records.len() >= MIN_ALL_OR_NOTHING && self.skipping == 0 {
                if let Some(accepted) = store::insert_all(&self.pool, records, traces).await? {
                    return Ok(accepted);
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
        stored: Result<Vec<Accepted>, StoreError>,
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
            Accepted::New(record) => Some((record, trace)),
            _ => None,
        });
        self.dispatch.send(new.map(|(record, trace)| {
            metrics::counter!("passbook_records_accepted_total", "type" => record.kind.as_str())
                .increment(1);
            (record.command(), *trace)
        }));
        failpoint::point("accept.dispatched", &accepted);
        for (accepted, responder) in accepted.into_iter().zip(responders) {
            responder.respond(Ok(accepted));
        }
    }
}
