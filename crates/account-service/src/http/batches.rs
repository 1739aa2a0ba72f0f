//! `POST /v1/batches`: many independent movements in one request.
//!
//! Each item is accepted or rejected as it would be alone, under its own key. A
//! client without a response sends the batch again unchanged: stored items are
//! replayed, and the others are stored then.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Extension, Json,
    extract::{FromRequest, Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use contract::{AccountId, Currency, Kind, RecordId};
use futures::future::join_all;
use runtime::{
    http::{
        bearer::Caller,
        idempotency_key::{IdempotencyKey, KEY_MALFORMED},
        json_body::JsonBody,
        problem::{
            BODY_TOO_SLOW, INVALID_FIELD, MALFORMED_ID, OUTCOME_UNKNOWN, Problem, ProblemView,
            UNAVAILABLE,
        },
    },
    postgres::CALL_LIMIT,
    telemetry::trace::Trace,
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout},
};
use utoipa::ToSchema;

use super::{
    Api, ApiState, accounts,
    movements::{self, MovementRequest},
    problems::{account_not_found, queue, write},
    records::{RecordView, Replayed},
    schemas,
};
use crate::{record::NewRecord, store::Accepted};

/// Maximum items in a batch.
const MAX_ITEMS: usize = 1000;
/// Enough for 1,000 items with the longest keys and some white space.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Maximum batches in process: each takes a few megabytes.
pub(super) const MAX_CONCURRENT: usize = 8;
/// Maximum bodies of batches that arrive or wait for a permit.
const MAX_BODIES: usize = 24;
/// Time of a body while other batches wait for its place.
const TIME_IF_SHORT: Duration = Duration::from_secs(1);
/// Time limit of a batch's wait for a place, and of that for its permit.
const PERMIT_LIMIT: Duration = Duration::from_secs(5);

/// Movements that do not depend on each other.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Batch {
    #[schema(min_items = 1, max_items = 1000)]
    items: Vec<Item>,
}

/// One movement of a batch.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = BatchItem)]
struct Item {
    #[schema(value_type = Uuid)]
    account_id: String,
    #[schema(value_type = schemas::MovementType)]
    r#type: Kind,
    #[schema(value_type = schemas::Amount)]
    amount: String,
    /// As the header `Idempotency-Key` of a single movement.
    #[schema(min_length = 1, examples("friday-1"))]
    idempotency_key: String,
}

/// The outcomes of a batch, in the order of its items.
#[derive(Serialize, ToSchema)]
#[schema(as = BatchResult)]
struct BatchView {
    items: Vec<ItemView>,
}

/// The response to an item as if it were a request of its own.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = BatchItemResult)]
enum ItemView {
    #[schema(title = "AcceptedItem")]
    Accepted {
        /// 202.
        status: u16,
        /// Whether the item was accepted before.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        replayed: bool,
        record: RecordView,
    },
    #[schema(title = "RefusedItem")]
    Refused {
        /// The `status` of the problem.
        status: u16,
        #[schema(value_type = ProblemView)]
        problem: Problem,
    },
}

/// Move money in a batch
///
/// Each item is accepted or refused as it would be alone, under its own key. Without a response,
/// send the batch again unchanged: stored items are replayed, the others are stored then.
#[utoipa::path(post, path = "/v1/batches", tag = "Movements", operation_id = "createBatch",
    request_body = Batch,
    responses((status = OK, body = BatchView, description = "The response to each item.")))]
pub(super) async fn accept(
    State(api): State<ApiState>,
    caller: Caller,
    Extension(trace): Extension<Trace>,
    request: Request,
) -> Result<Response, Problem> {
    // The permit is taken after the body is read: a few slow clients would have all permits.
    let place = api.batch_bodies.place().await?;
    let batch = api.batch_bodies.read(request).await?;
    let permit = timeout(PERMIT_LIMIT, Arc::clone(&api.batch_permits).acquire_owned()).await;
    let Ok(Ok(_permit)) = permit else { return Err(too_many()) };
    drop(place);
    if !(1..=MAX_ITEMS).contains(&batch.items.len()) {
        let detail = format!("A batch must have 1 to {MAX_ITEMS} items.");
        return Err(INVALID_FIELD.because(detail).at("items"));
    }
    let results = accept_all(&api, &caller, &trace, &batch.items).await;
    // If every item failed with 503, the response is 503.
    if let Some(problem) = all_unavailable(&results) {
        return Err(problem);
    }
    let items = results.into_iter().map(ItemView::from).collect();
    Ok(Json(BatchView { items }).into_response())
}

/// The places for the bodies of batches that arrive or wait for a permit.
#[derive(Debug)]
pub struct BatchBodies {
    places: Semaphore,
    /// Batches that wait for a place.
    waiting: AtomicUsize,
}

impl BatchBodies {
    pub(super) const fn new() -> Self {
        Self { places: Semaphore::const_new(MAX_BODIES), waiting: AtomicUsize::new(0) }
    }

    /// Waits for a place.
    async fn place(&self) -> Result<SemaphorePermit<'_>, Problem> {
        if let Ok(place) = self.places.try_acquire() {
            return Ok(place);
        }
        let _waiting = Waiting::new(&self.waiting);
        let place = timeout(PERMIT_LIMIT, self.places.acquire()).await;
        place.ok().and_then(Result::ok).ok_or_else(too_many)
    }

    /// Reads a batch that has its place.
    async fn read(&self, request: Request) -> Result<Batch, Problem> {
        let read = JsonBody::<Batch, MAX_BODY_BYTES>::from_request(request, &());
        tokio::select! {
            batch = read => batch.map(|JsonBody(batch)| batch),
            () = self.short_of_places() => {
                let detail = "Many batches arrive at once. Send the body within a second.";
                Err(BODY_TOO_SLOW.because(detail))
            }
        }
    }

    /// Waits until a body had its time and another batch waits for a place.
    async fn short_of_places(&self) {
        tokio::time::sleep(TIME_IF_SHORT).await;
        while self.waiting.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(TIME_IF_SHORT / 10).await;
        }
    }
}

/// Counts a batch while it waits.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn too_many() -> Problem {
    UNAVAILABLE.because("Too many batches are in process. Nothing was stored.").retry_after(1)
}

type ItemResult = Result<(RecordView, Replayed), Problem>;

/// Accepts all items in one commit: each is queued before the first one is
/// awaited. The time limit covers the whole batch.
async fn accept_all(api: &Api, caller: &Caller, trace: &Trace, items: &[Item]) -> Vec<ItemResult> {
    let deadline = Instant::now() + CALL_LIMIT;
    let currencies = currencies(api, caller, items).await;
    let mut queued = Vec::with_capacity(items.len());
    for item in items {
        queued.push(match new_record(caller, &currencies, item) {
            Ok(record) => queue(deadline, api.acceptor.enqueue(record, *trace)).await,
            Err(problem) => Err(problem),
        });
    }
    let mut results = Vec::with_capacity(items.len());
    for pending in queued {
        results.push(match pending {
            Ok(pending) => {
                let written = write(deadline, movements::SEND_AGAIN, pending.committed()).await;
                written.and_then(item_result)
            }
            Err(problem) => Err(problem),
        });
    }
    results
}

fn item_result(accepted: Accepted) -> ItemResult {
    let (record, replayed) = movements::accepted_record(accepted, "idempotencyKey")?;
    Ok((RecordView::from(&record), replayed))
}

type Currencies = HashMap<AccountId, Result<Currency, Problem>>;

/// The currencies of the batch's accounts. Accounts that are not cached are
/// looked up in one batch.
async fn currencies(api: &Api, caller: &Caller, items: &[Item]) -> Currencies {
    let accounts: HashSet<AccountId> =
        items.iter().filter_map(|item| item.account_id.parse().ok()).collect();
    let (cached, missing): (Vec<_>, Vec<_>) =
        accounts.into_iter().partition(|id| api.lookup.cached_account(*id).is_some());
    let mut currencies = Currencies::with_capacity(cached.len() + missing.len());
    for id in cached {
        currencies.insert(id, accounts::currency_of(api, caller, id).await);
    }
    let looked_up =
        missing.into_iter().map(async |id| (id, accounts::currency_of(api, caller, id).await));
    currencies.extend(join_all(looked_up).await);
    currencies
}

fn new_record(caller: &Caller, currencies: &Currencies, item: &Item) -> Result<NewRecord, Problem> {
    let malformed = |error| MALFORMED_ID.because(format!("accountId {error}.")).at("accountId");
    let account = item.account_id.parse().map_err(malformed)?;
    let key = IdempotencyKey::parse(&item.idempotency_key).ok_or_else(|| {
        let detail = "idempotencyKey must be 1 to 255 visible ASCII characters.";
        KEY_MALFORMED.because(detail).at("idempotencyKey")
    })?;
    let currency =
        currencies.get(&account).cloned().unwrap_or_else(|| Err(account_not_found(account)))?;
    let (id, kind) = (RecordId::new(), item.r#type);
    MovementRequest { id, kind, account, key, amount: &item.amount }.new_record(caller, currency)
}

/// The common problem, if every item failed with 503: an unknown outcome, if one of them
/// has it.
fn all_unavailable(results: &[ItemResult]) -> Option<Problem> {
    let unavailable = |result: &ItemResult| {
        let problem = result.as_ref().err();
        problem.filter(|problem| problem.status() == StatusCode::SERVICE_UNAVAILABLE).cloned()
    };
    let problems: Vec<_> = results.iter().map(unavailable).collect::<Option<_>>()?;
    let unknown = problems.iter().find(|problem| problem.is(OUTCOME_UNKNOWN)).cloned();
    unknown.or_else(|| problems.into_iter().next())
}

impl From<ItemResult> for ItemView {
    fn from(result: ItemResult) -> Self {
        match result {
            Ok((record, replayed)) => Self::Accepted {
                status: StatusCode::ACCEPTED.as_u16(),
                replayed: replayed == Replayed::Yes,
                record,
            },
            Err(problem) => Self::Refused { status: problem.status().as_u16(), problem },
        }
    }
}
