//! The checks of a request that need no database, together.

use audit_log::{AuditFilter, AuditQuery, PARAMETERS};
use axum::{extract::Query, http::Uri};
use contract::{AccountId, Currency, Kind, RecordId};
use runtime::http::{
    bearer::Caller,
    idempotency_key::IdempotencyKey,
    json_body,
    page::{self, Page},
    problem::Problem,
};
use serde::de::DeserializeOwned;

use super::{
    api_key_request::{CreateApiKey, expiry},
    batches::Batch,
    labels,
    movements::{MovementBody, MovementRequest},
    record_query::RecordsQuery,
};
use crate::{
    record::NewRecord,
    store::{ApiKeyRequest, AuditAction, RecordFilter},
};

/// Parses the body of a movement.
///
/// # Errors
/// `malformed-json`, `duplicate-field`, `invalid-field` or `forbidden`
pub fn parse_movement(
    body: &[u8],
    kind: Kind,
    key: IdempotencyKey,
    caller: &Caller,
    currency: Currency,
) -> Result<NewRecord, Problem> {
    let body: MovementBody = json_body::object("The body", body)?;
    let (id, account) = (RecordId::new(), AccountId::new());
    let labels = labels::of_movement(body.reference, body.description, body.metadata)?;
    let (amount, asserted) = (body.amount.as_str(), body.currency.as_deref());
    let request = MovementRequest { id, kind, account, key, amount, asserted, labels };
    request.new_record(caller, currency)
}

/// The form of a batch.
#[derive(Debug)]
pub struct ParsedBatch {
    /// Whether each of the first items has the form of one.
    pub read: Vec<Result<(), Problem>>,
    /// The number of all items.
    pub count: usize,
}

/// Parses the body of a batch.
///
/// # Errors
/// `malformed-json`, `duplicate-field` or `invalid-field`
pub fn parse_batch(body: &[u8]) -> Result<ParsedBatch, Problem> {
    let Batch { items } = json_body::object("The body", body)?;
    let read = items.read.into_iter().map(|item| item.map(drop)).collect();
    Ok(ParsedBatch { read, count: items.count })
}

/// Parses the body of a request for an API key.
///
/// # Errors
/// `malformed-json`, `duplicate-field`, `invalid-field` or `forbidden`
pub fn parse_api_key(body: &[u8], caller: &Caller) -> Result<ApiKeyRequest, Problem> {
    let request = json_body::object::<CreateApiKey>("The body", body)?.parse(caller)?;
    let expires_at = Some(expiry(request.expires_at)?);
    Ok(ApiKeyRequest { expires_at, ..request })
}

/// Parses the query of a list of this account's records.
///
/// # Errors
/// `invalid-query`, `invalid-field` or `invalid-cursor`
pub fn parse_records_query(
    uri: &Uri,
    account: AccountId,
) -> Result<(Page, RecordFilter, Option<IdempotencyKey>), Problem> {
    let query: RecordsQuery = query(uri, RecordsQuery::KNOWN)?;
    let (page, (filter, key)) = (query.page(account)?, query.filter()?);
    Ok((page, filter, key))
}

/// Parses the query of the audit log.
///
/// # Errors
/// `invalid-query` or `invalid-field`
pub fn parse_audit_query(uri: &Uri) -> Result<AuditFilter, Problem> {
    let actions = AuditAction::ALL.map(AuditAction::as_str);
    query::<AuditQuery>(uri, PARAMETERS)?.filter(&actions)
}

fn query<T: DeserializeOwned>(uri: &Uri, known: &str) -> Result<T, Problem> {
    page::query(Query::try_from_uri(uri), known)
}
