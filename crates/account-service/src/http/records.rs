//! `/v1/records/{id}` and `/v1/accounts/{id}/records`: shows and lists records.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header::LOCATION},
    response::{IntoResponse, Response},
};
use contract::{AccountId, ApiKeyId, RecordId, Scope, TransactionId};
use ledger::SettledAs;
use runtime::http::{
    bearer::Caller,
    database::read,
    entity_tag::TaggedJson,
    idempotency_key::KEY_REUSED,
    openapi::{IfNoneMatchHeader, PreferHeader},
    page,
    path_id::PathId,
    prefer,
    problem::Problem,
    timestamp,
};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::{
    Api, ApiState, accounts,
    consistency::{self, ConsistencyQuery},
    labels::MetadataSchema,
    problems::{ACCOUNT_NOT_FOUND, RECORD_NOT_FOUND},
    record_query::RecordsQuery,
    schemas, wait,
};
use crate::{
    record::Record,
    store::{self, Listing},
    waiters::Wait,
};

/// A request to move money, and its outcome.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Record, examples(json!({
    "recordId": "01a20008-a38b-7161-bca5-0ac401b01de7",
    "accountId": "01a20008-a367-77bd-a6bf-eaa3667171b3",
    "type": "DEPOSIT",
    "amount": "10000",
    "currency": "KRW",
    "status": "SUCCESS",
    "reason": null,
    "transactionId": "bb761f1f0087d0517a44c459f5705e56",
    "balanceAfter": "10000",
    "accountSeq": 1,
    "idempotencyKey": "monday-1",
    "requestedBy": "teller",
    "apiKeyId": null,
    "reference": "invoice 4711",
    "description": null,
    "metadata": {},
    "createdAt": "2026-11-21T21:34:55.883429Z",
    "updatedAt": "2026-11-21T21:34:55.943571Z",
})))]
pub(super) struct RecordView {
    #[schema(value_type = Uuid)]
    record_id: RecordId,
    #[schema(value_type = Uuid)]
    account_id: AccountId,
    #[schema(value_type = schemas::MovementType)]
    r#type: &'static str,
    #[schema(value_type = schemas::Money)]
    amount: String,
    #[schema(value_type = schemas::Currency)]
    currency: &'static str,
    #[schema(value_type = schemas::RecordStatus)]
    status: &'static str,
    /// Why the record FAILED; otherwise null.
    #[schema(value_type = Option<schemas::RefusalReason>, required)]
    reason: Option<&'static str>,
    /// The id of the ledger's decision; null while PENDING.
    #[schema(value_type = Option<schemas::TransactionId>, required)]
    transaction_id: Option<TransactionId>,
    /// The account's balance right after the movement; null unless SUCCESS.
    #[schema(value_type = Option<schemas::Money>, required)]
    balance_after: Option<String>,
    /// The number of this movement among those of its account: 1, 2, 3 … without a gap.
    /// `null` while PENDING and if FAILED, and for a record that a release before 0.1.0 settled.
    #[schema(minimum = 1, required)]
    account_seq: Option<i64>,
    /// The key of the request, as its caller chose it.
    idempotency_key: String,
    /// The caller who made the request.
    requested_by: String,
    /// The API key of the request; null for a token, and for a record that a release before 0.1.0
    /// accepted.
    #[schema(value_type = Option<Uuid>, required)]
    api_key_id: Option<ApiKeyId>,
    /// The client's own name for the movement.
    #[schema(required)]
    reference: Option<String>,
    /// The client's note.
    #[schema(required)]
    description: Option<String>,
    #[schema(value_type = MetadataSchema)]
    metadata: BTreeMap<String, String>,
    /// When the request was accepted.
    #[serde(with = "timestamp")]
    created_at: OffsetDateTime,
    /// When the record was settled; before that, when it was accepted.
    #[serde(with = "timestamp")]
    updated_at: OffsetDateTime,
}

impl From<&Record> for RecordView {
    fn from(record: &Record) -> Self {
        let settled_as = record.settlement.map(|settlement| settlement.settled_as);
        Self {
            record_id: record.id,
            account_id: record.account_id,
            r#type: record.kind.as_str(),
            amount: record.amount.to_string(),
            currency: record.currency.code(),
            status: record.status().as_str(),
            reason: settled_as.and_then(SettledAs::reason).map(|reason| reason.as_str()),
            transaction_id: settled_as.map(|_| TransactionId::of(record.id)),
            balance_after: settled_as
                .and_then(SettledAs::balance_after)
                .map(|balance| balance.to_string()),
            account_seq: record.account_seq,
            idempotency_key: record.key.clone(),
            requested_by: record.user_id.to_string(),
            api_key_id: record.api_key,
            reference: record.labels.reference.as_ref().map(|text| text.as_str().to_owned()),
            description: record.labels.description.as_ref().map(|text| text.as_str().to_owned()),
            metadata: record.labels.metadata.entries().clone(),
            created_at: record.created_at,
            updated_at: record.updated_at,
        }
    }
}

/// Whether the request was accepted before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replayed {
    Yes,
    No,
}

impl Replayed {
    /// Sets the header `Idempotent-Replayed`, if it is so.
    pub(super) fn mark(self, response: &mut Response) {
        if self == Self::Yes {
            let yes = HeaderValue::from_static("true");
            response.headers_mut().insert("idempotent-replayed", yes);
        }
    }
}

/// The problem of a key that another request has.
pub(super) fn key_reused() -> Problem {
    KEY_REUSED.because("Send a new key for a new request, or the first request again.")
}

/// The status of an answer with a record: 200 if it is settled, 202 while it is PENDING.
pub(super) const fn status_of(record: &Record) -> StatusCode {
    if record.settlement.is_some() { StatusCode::OK } else { StatusCode::ACCEPTED }
}

/// The response to a movement: the record, after the client's wait. `wait` started before
/// the record was accepted.
pub(super) async fn respond(
    api: &Api,
    record: Record,
    patience: Option<Duration>,
    replayed: Replayed,
    wait: Option<Wait>,
) -> Result<Response, Problem> {
    let wait = wait.filter(|_| replayed == Replayed::No);
    let (record, patience) = wait_if_preferred(api, record, patience, wait).await;
    let location = format!("/v1/records/{}", record.id);
    let view = TaggedJson::new(&RecordView::from(&record))?;
    let mut response = (status_of(&record), [(LOCATION, location)], view).into_response();
    replayed.mark(&mut response);
    set_preference_applied(&mut response, patience);
    Ok(response)
}

/// Show a record
///
/// With `Prefer: wait=N`, `If-None-Match` is compared with the state after the wait: a client that
/// knows the PENDING record gets 304 if it is PENDING still.
///
/// By default, the record is this service's copy: once it is settled, it never changes. It can be
/// PENDING for a moment after the ledger has decided it. With `consistency=ledger`, a PENDING
/// record shows the decision as soon as the ledger has it.
#[utoipa::path(get, path = "/v1/records/{record}", tag = "Movements", operation_id = "getRecord",
    security(("token" = ["accounts:read"]), ("apiKey" = ["accounts:read"])),
    params(("record" = Uuid, Path, description = "The id of the record."), ConsistencyQuery,
        PreferHeader, IfNoneMatchHeader),
    responses(
        (status = OK, body = RecordView, description = "The record in its present state.",
            headers(("ETag" = String, description = "Of this representation."))),
        (status = NOT_MODIFIED, description = "The client has this state."),
        (status = NOT_FOUND, description = "record-not-found"),
        (status = NOT_IMPLEMENTED, description = "ledger-reads-off"),
        (status = SERVICE_UNAVAILABLE, description = "ledger-unavailable"),
    ))]
pub(super) async fn show(
    State(api): State<ApiState>,
    caller: Caller,
    PathId(id): PathId<RecordId>,
    query: Result<Query<ConsistencyQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    caller.require(Scope::AccountsRead)?;
    let ledger = ConsistencyQuery::ledger(query, &api)?;
    let not_found = || RECORD_NOT_FOUND.because(format!("No record has the id {id}."));
    let record = read(api.lookup.record(id)).await?.ok_or_else(not_found)?;
    let account = accounts::currency_of(&api, &caller, record.account_id).await;
    account.map_err(|problem| {
        if problem.is(ACCOUNT_NOT_FOUND) { not_found().instead_of(problem) } else { problem }
    })?;
    let patience = prefer::wait(&headers, api.longest_wait);
    let (record, patience) = match ledger {
        None => wait_if_preferred(&api, record, patience, None).await,
        Some(ledger) => {
            let record = consistency::read(ledger.with_decision(record)).await?;
            let (record, patience) = wait_if_preferred(&api, record, patience, None).await;
            (consistency::read(ledger.with_decision(record)).await?, patience)
        }
    };
    let view = TaggedJson::new(&RecordView::from(&record))?;
    let mut response = view.unless_known(&headers);
    set_preference_applied(&mut response, patience);
    Ok(response)
}

/// The record after the client's wait, and the applied preference. The preference is
/// `None` if the client did not ask to wait, or too many records are awaited.
pub(super) async fn wait_if_preferred(
    api: &Api,
    record: Record,
    patience: Option<Duration>,
    wait: Option<Wait>,
) -> (Record, Option<Duration>) {
    let Some(longest) = patience.filter(|_| record.settlement.is_none()) else {
        return (record, patience);
    };
    // A wait that began before the acceptance missed no notification: no read is needed.
    let read_first = wait.is_none();
    let Some(wait) = wait.or_else(|| api.waiters.wait_for(record.id)) else {
        return (record, None);
    };
    let settled = wait::until_settled(api, &record, wait, longest, read_first).await;
    (settled.unwrap_or(record), patience)
}

pub(super) fn set_preference_applied(response: &mut Response, patience: Option<Duration>) {
    let applied = patience.map(|patience| format!("wait={}", patience.as_secs()));
    if let Some(value) = applied.and_then(|text| HeaderValue::try_from(text).ok()) {
        response.headers_mut().insert("preference-applied", value);
    }
}

/// One page of records.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = RecordPage)]
struct PageView {
    /// Newest first. A page may have fewer items than its limit, even none, and a next page.
    items: Vec<RecordView>,
    /// The `cursor` of the next page; null on the last one.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// List the records of an account
///
/// Newest first.
#[utoipa::path(get, path = "/v1/accounts/{account}/records", tag = "Movements",
    operation_id = "listRecords",
    params(("account" = Uuid, Path, description = "The id of the account."), RecordsQuery),
    security(("token" = ["accounts:read"]), ("apiKey" = ["accounts:read"])),
    responses(
        (status = OK, body = PageView, description = "A page of records."),
        (status = NOT_FOUND, description = "account-not-found"),
    ))]
pub(super) async fn list(
    State(api): State<ApiState>,
    caller: Caller,
    PathId(account): PathId<AccountId>,
    query: Result<Query<RecordsQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let query = page::query(query, RecordsQuery::KNOWN)?;
    let page = query.page(account)?;
    let (filter, key) = query.filter()?;
    caller.require(Scope::AccountsRead)?;
    let account = accounts::usable(&api, &caller, account).await?;
    let before = page.before.map(RecordId::from_uuid);
    let listing = match &key {
        None => {
            read(store::list_records(&api.pool, account.id, &filter, before, page.to_read()))
                .await?
        }
        Some(key) => {
            let callers = match &filter.requested_by {
                Some(caller) => vec![caller],
                None => vec![&caller.user_id, &account.owner],
            };
            let found = store::find_by_key(&api.pool, account.id, key, &callers, &filter, before);
            Listing { records: read(found).await?, read_to: None }
        }
    };
    let mut records = listing.records;
    let next_cursor = page.cut(&mut records, |record| record.id.as_uuid());
    let next_cursor = next_cursor.or_else(|| Some(page.cursor(listing.read_to?.as_uuid())));
    let items = records.iter().map(RecordView::from).collect();
    Ok(Json(PageView { items, next_cursor }).into_response())
}
