//! `/v1/records/{id}` and `/v1/accounts/{id}/records`: shows and lists records.

use std::time::Duration;

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header::LOCATION},
    response::{IntoResponse, Response},
};
use contract::{AccountId, RecordId};
use ledger::SettledAs;
use runtime::http::{
    bearer::Caller,
    openapi::PreferHeader,
    page::{self, Page},
    path_id::PathId,
    prefer,
    problem::Problem,
};
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, serde::rfc3339};
use utoipa::{IntoParams, ToSchema};

use super::{
    Api, ApiState, accounts,
    problems::{RECORD_NOT_FOUND, read},
    schemas, wait,
};
use crate::{record::Record, store, waiters::Wait};

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
    "transactionId": 4,
    "balanceAfter": "10000",
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
    /// The transaction in the ledger; null while PENDING.
    #[schema(required)]
    transaction_id: Option<i64>,
    /// The balance right after the movement; null unless SUCCESS.
    #[schema(value_type = Option<schemas::Money>, required)]
    balance_after: Option<String>,
    #[serde(with = "rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "rfc3339")]
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
            status: match settled_as {
                None => "PENDING",
                Some(SettledAs::Success(_)) => "SUCCESS",
                Some(SettledAs::Failed(_)) => "FAILED",
            },
            reason: settled_as.and_then(SettledAs::reason).map(|reason| reason.as_str()),
            transaction_id: record.settlement.map(|settlement| settlement.transaction_id),
            balance_after: settled_as
                .and_then(SettledAs::balance_after)
                .map(|balance| balance.to_string()),
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

/// The response to a movement: the record, after the client's wait. 200 if the
/// client waited and the record is settled, otherwise 202. `wait` started before
/// the record was accepted.
pub(super) async fn respond(
    api: &Api,
    record: Record,
    patience: Option<Duration>,
    replayed: Replayed,
    wait: Option<Wait>,
) -> Response {
    let wait = wait.filter(|_| replayed == Replayed::No);
    let (record, patience) = wait_if_preferred(api, record, patience, wait).await;
    let settled = record.settlement.is_some() && patience.is_some();
    let status = if settled { StatusCode::OK } else { StatusCode::ACCEPTED };
    let location = format!("/v1/records/{}", record.id);
    let view = Json(RecordView::from(&record));
    let mut response = (status, [(LOCATION, location)], view).into_response();
    if replayed == Replayed::Yes {
        let yes = HeaderValue::from_static("true");
        response.headers_mut().insert("idempotent-replayed", yes);
    }
    set_preference_applied(&mut response, patience);
    response
}

/// Show a record
#[utoipa::path(get, path = "/v1/records/{record}", tag = "Movements", operation_id = "getRecord",
    params(("record" = Uuid, Path, description = "The id of the record."), PreferHeader),
    responses(
        (status = OK, body = RecordView, description = "The record in its present state."),
        (status = NOT_FOUND, description = "record-not-found"),
    ))]
pub(super) async fn show(
    State(api): State<ApiState>,
    caller: Caller,
    PathId(id): PathId<RecordId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let found = read(api.lookup.record(id)).await?;
    let record =
        found.ok_or_else(|| RECORD_NOT_FOUND.because(format!("No record has the id {id}.")))?;
    accounts::currency_of(&api, &caller, record.account_id).await?;
    let patience = prefer::wait(&headers, api.longest_wait);
    let (record, patience) = wait_if_preferred(&api, record, patience, None).await;
    let mut response = Json(RecordView::from(&record)).into_response();
    set_preference_applied(&mut response, patience);
    Ok(response)
}

/// The record after the client's wait, and the applied preference. The preference is
/// `None` if the client did not ask to wait, or too many records are awaited.
async fn wait_if_preferred(
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

fn set_preference_applied(response: &mut Response, patience: Option<Duration>) {
    let applied = patience.map(|patience| format!("wait={}", patience.as_secs()));
    if let Some(value) = applied.and_then(|text| HeaderValue::try_from(text).ok()) {
        response.headers_mut().insert("preference-applied", value);
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Maximum items of the page.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 100, default = 20)]
    limit: Option<String>,
    /// `nextCursor` of the previous page.
    cursor: Option<String>,
}

/// One page of records.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = RecordPage)]
struct PageView {
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
    params(("account" = Uuid, Path, description = "The id of the account."), ListQuery),
    responses(
        (status = OK, body = PageView, description = "A page of records."),
        (status = NOT_FOUND, description = "account-not-found"),
    ))]
pub(super) async fn list(
    State(api): State<ApiState>,
    caller: Caller,
    PathId(account): PathId<AccountId>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let query = page::query(query, "limit and cursor")?;
    let page = Page::parse(query.limit.as_deref(), query.cursor.as_deref())?;
    let account = accounts::usable(&api, &caller, account).await?;
    let before = page.before.map(RecordId::from_uuid);
    let records = store::list_records(&api.pool, account.id, before, page.to_read());
    let mut records = read(records).await?;
    let next_cursor = page.cut(&mut records, |record| record.id.as_uuid());
    let items = records.iter().map(RecordView::from).collect();
    Ok(Json(PageView { items, next_cursor }).into_response())
}
