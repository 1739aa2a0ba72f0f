//! `POST /v1/batches`: many independent movements in one request.
//!
//! Each item is accepted or rejected as it would be alone, under its own key. A
//! client without a response sends the batch again unchanged: stored items are
//! replayed, and the others are stored then. With `Prefer: wait=N` the response waits until all
//! records are settled, for N seconds at most.

use std::{
    collections::{HashMap, HashSet},
    num::NonZeroU32,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use axum::{
    Extension, Json,
    extract::{FromRequest, Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use contract::{AccountId, Currency, Kind, RecordId, Scope};
use futures::future::join_all;
use runtime::{
    http::{
        bearer::Caller,
        database::write_until,
        idempotency_key::{IdempotencyKey, KEY_MALFORMED},
        json_body::JsonBody,
        openapi::PreferHeader,
        prefer,
        problem::{
            BODY_TOO_SLOW, INVALID_FIELD, MALFORMED_ID, OUTCOME_UNKNOWN, Problem, ProblemView,
            UNAVAILABLE,
        },
        rate_limit::RateSlot,
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
    batch_items::Items,
    batch_permits::{permit, too_many},
    labels::{self, Entries, MetadataSchema},
    movements::{self, MovementRequest, SEND_AGAIN},
    problems::{account_not_found, queue},
    records::{self, RecordView, Replayed},
    schemas,
};
use crate::{
    places::Place,
    record::{NewRecord, Record},
    store::Accepted,
    waiters::Wait,
};

/// Maximum items in a batch.
pub const MAX_ITEMS: u16 = 1000;
/// Enough for 1,000 items with the longest keys and some white space.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Maximum batches in process: each takes a few megabytes.
pub(super) const MAX_CONCURRENT: usize = 8;
/// Maximum batches of a customer that arrive or are in process. Further ones wait, and take no
/// places of others.
pub(super) const MAX_OF_CUSTOMER: usize = 2;
/// Maximum bodies of batches that arrive or wait for a permit.
const MAX_BODIES: usize = 24;
/// Maximum batches whose clients wait for their records. Others are answered at once.
pub(super) const MAX_WAITING: usize = 16;
/// Time of a body while other batches wait for its place.
const TIME_IF_SHORT: Duration = Duration::from_secs(1);
/// Time limit of a batch's wait for a place, and of that for its permit.
pub(super) const PERMIT_LIMIT: Duration = Duration::from_secs(5);

/// Movements that do not depend on each other.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Batch {
    #[schema(value_type = Vec<Item>, min_items = 1, max_items = 1000)]
    pub(super) items: Items<Item, MAX_ITEMS>,
}

/// One movement of a batch.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = BatchItem)]
pub(super) struct Item {
    #[schema(value_type = Uuid)]
    account_id: String,
    #[schema(value_type = schemas::MovementType)]
    r#type: Kind,
    #[schema(value_type = schemas::Amount)]
    amount: String,
    /// The account's currency. Another one is refused.
    #[schema(value_type = Option<schemas::Currency>, nullable = false)]
    currency: Option<String>,
    /// As the header `Idempotency-Key` of a single movement.
    #[schema(min_length = 1, examples("friday-1"))]
    idempotency_key: String,
    /// As that of a single movement.
    #[schema(min_length = 1, max_length = 255, nullable = false)]
    reference: Option<String>,
    /// As that of a single movement.
    #[schema(min_length = 1, max_length = 1000, nullable = false)]
    description: Option<String>,
    #[schema(value_type = Option<MetadataSchema>, nullable = false)]
    metadata: Option<Entries>,
}

/// The outcomes of a batch, in the order of its items.
#[derive(Serialize, ToSchema)]
#[schema(as = BatchResult)]
struct BatchView {
    items: Vec<ItemView>,
}

/// The response to the item as if it were a request of its own, in the order of the items. It has
/// either `record` or `problem`.
#[derive(Serialize, ToSchema)]
#[schema(as = BatchItemResult)]
struct ItemView {
    /// The place of the item in the request, from 0 on.
    #[schema(minimum = 0)]
    index: usize,
    /// 200 if the record is settled, 202 while it is PENDING; the `status` of the problem if the
    /// item was refused.
    status: u16,
    /// Whether the item was accepted before, under the same key.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    replayed: bool,
    /// The record of an accepted item.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    record: Option<Box<RecordView>>,
    /// The problem of a refused item.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ProblemView>, nullable = false)]
    problem: Option<Problem>,
}

/// Move money in a batch
///
/// Each item is accepted or refused as it would be alone, under its own key. Without a response,
/// send the batch again unchanged: stored items are replayed, the others are stored then. The items
/// count towards a limit of movements a second: beyond it, nothing is stored.
#[utoipa::path(post, path = "/v1/batches", tag = "Movements", operation_id = "createBatch",
    params(PreferHeader),
    security(("token" = []), ("apiKey" = [])),
    request_body = Batch,
    responses((status = OK, body = BatchView, description = "The response to each item.")))]
pub(super) async fn accept(
    State(api): State<ApiState>,
    caller: Caller,
    Extension(trace): Extension<Trace>,
    request: Request,
) -> Result<Response, Problem> {
    let patience = prefer::wait(request.headers(), api.longest_wait);
    let rates = request.extensions().get::<RateSlot>().cloned();
    let own_place = own_place(&api, &caller).await?;
    // The permit is taken after the body is read: a few slow clients would have all permits.
    let place = api.batch_bodies.place().await?;
    let batch = api.batch_bodies.read(request).await?;
    let number = u16::try_from(batch.items.count).ok().filter(|number| *number <= MAX_ITEMS);
    let Some(number) = number.and_then(|number| NonZeroU32::new(number.into())) else {
        let detail = format!("A batch must have 1 to {MAX_ITEMS} items.");
        return Err(INVALID_FIELD.because(detail).at("items"));
    };
    let count = || api.limits.rates.admit_movements(&caller, number, rates.as_ref());
    let permit = permit(&api.batch_permits, count).await?;
    drop(place);
    // Waiting batches take memory, but no work.
    let waiting =
        patience.and_then(|patience| Some((patience, api.batch_waits.try_acquire().ok()?)));
    let patience = waiting.as_ref().map(|(patience, _)| *patience);
    let request = BatchRequest { api: &api, caller: &caller, trace, patience };
    let accepted = request.accept_all(batch.items.read).await;
    drop((permit, own_place));
    let results = request.wait_for_all(accepted).await;
    // If every item failed with 503, the response is 503.
    if let Some(problem) = all_unavailable(&results) {
        return Err(problem);
    }
    api.limits.note_refusal(results.iter().filter_map(|result| result.as_ref().err()));
    let items = results.into_iter().enumerate().map(|(at, result)| ItemView::new(at, result));
    let mut response = Json(BatchView { items: items.collect() }).into_response();
    records::set_preference_applied(&mut response, patience);
    Ok(response)
}

/// Waits for a place of this customer. Other callers need none.
async fn own_place(api: &Api, caller: &Caller) -> Result<Option<Place>, Problem> {
    if caller.scopes.contains(Scope::AccountsAny) {
        return Ok(None);
    }
    let place = timeout(PERMIT_LIMIT, api.customer_batches.take(&caller.user_id)).await;
    place.map_err(|_| {
        let detail = format!(
            "A customer may have {MAX_OF_CUSTOMER} batches in process. Nothing was stored."
        );
        UNAVAILABLE.because(detail).retry_after(1)
    })
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

type ItemResult = Result<(Record, Replayed), Problem>;

/// What the items of a batch have in common.
struct BatchRequest<'a> {
    api: &'a Api,
    caller: &'a Caller,
    trace: Trace,
    /// How long the client waits for the records to settle.
    patience: Option<Duration>,
}

impl BatchRequest<'_> {
    /// Accepts all items in one commit: each is queued before the first one is
    /// awaited. The time limit covers the whole batch. A wait begins before its record exists.
    async fn accept_all(
        &self,
        items: Vec<Result<Item, Problem>>,
    ) -> Vec<(ItemResult, Option<Wait>)> {
        let Self { api, caller, trace, patience } = self;
        let deadline = Instant::now() + CALL_LIMIT;
        let currencies = currencies(api, caller, &items).await;
        let mut queued = Vec::with_capacity(items.len());
        for item in items {
            let record = item.and_then(|item| new_record(caller, &currencies, item));
            queued.push(match record {
                Ok(record) => {
                    let wait = patience.and_then(|_| api.waiters.wait_for(record.id));
                    let pending = queue(deadline, api.acceptor.enqueue(record, *trace)).await;
                    pending.map(|pending| (pending, wait))
                }
                Err(problem) => Err(problem),
            });
        }
        let mut results = Vec::with_capacity(queued.len());
        for pending in queued {
            results.push(match pending {
                Ok((pending, wait)) => {
                    let written = write_until(deadline, SEND_AGAIN, pending.committed()).await;
                    (written.and_then(item_result), wait)
                }
                Err(problem) => (Err(problem), None),
            });
        }
        results
    }

    /// The results after the client's wait.
    async fn wait_for_all(&self, accepted: Vec<(ItemResult, Option<Wait>)>) -> Vec<ItemResult> {
        let settled = accepted.into_iter().map(async |(result, wait)| {
            let (record, replayed) = result?;
            let wait = wait.filter(|_| replayed == Replayed::No);
            let waited = records::wait_if_preferred(self.api, record, self.patience, wait);
            Ok((waited.await.0, replayed))
        });
        join_all(settled).await
    }
}

fn item_result(accepted: Accepted) -> ItemResult {
    movements::accepted_record(accepted).map_err(|problem| problem.at("idempotencyKey"))
}

type Currencies = HashMap<AccountId, Result<Currency, Problem>>;

/// The currencies of the batch's accounts. Accounts that are not cached are
/// looked up in one batch.
async fn currencies(api: &Api, caller: &Caller, items: &[Result<Item, Problem>]) -> Currencies {
    let accounts: HashSet<AccountId> =
        items.iter().flatten().filter_map(|item| item.account_id.parse().ok()).collect();
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

fn new_record(caller: &Caller, currencies: &Currencies, item: Item) -> Result<NewRecord, Problem> {
    let malformed = |error| MALFORMED_ID.because(format!("accountId {error}.")).at("accountId");
    let account = item.account_id.parse().map_err(malformed)?;
    let key = IdempotencyKey::parse(&item.idempotency_key).ok_or_else(|| {
        let detail = "idempotencyKey must be 1 to 255 visible ASCII characters.";
        KEY_MALFORMED.because(detail).at("idempotencyKey")
    })?;
    let currency =
        currencies.get(&account).cloned().unwrap_or_else(|| Err(account_not_found(account)))?;
    let (id, kind) = (RecordId::new(), item.r#type);
    let asserted = item.currency.as_deref();
    let labels = labels::of_movement(item.reference, item.description, item.metadata)?;
    MovementRequest { id, kind, account, key, amount: &item.amount, asserted, labels }
        .new_record(caller, currency)
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

impl ItemView {
    fn new(index: usize, result: ItemResult) -> Self {
        match result {
            Ok((record, replayed)) => Self {
                index,
                status: records::status_of(&record).as_u16(),
                replayed: replayed == Replayed::Yes,
                record: Some(Box::new(RecordView::from(&record))),
                problem: None,
            },
            Err(problem) => Self {
                index,
                status: problem.status().as_u16(),
                replayed: false,
                record: None,
                problem: Some(problem.in_item("items", index)),
            },
        }
    }
}
