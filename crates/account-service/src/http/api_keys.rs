//! `/v1/api-keys`: creates, lists and revokes the keys of machines.
//!
//! The secret of a key is not stored, so only the first response has it. A client that did not get
//! that response repeats the request with its `Idempotency-Key`, learns the id from the replay,
//! revokes the key and creates another one.

use audit_log::Actor;
use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode, header::LOCATION},
    response::{IntoResponse, Response},
};
use contract::{ApiKeyId, Scope};
use futures::{FutureExt, future::BoxFuture};
use runtime::http::{
    bearer::{ApiKey, ApiKeyHash, ApiKeyStore, Caller, NewApiKey, key_caller},
    database::{after_write, read, write},
    idempotency_key,
    json_body::JsonBody,
    openapi::OptionalIdempotencyKeyHeader,
    page::{self, Page},
    path_id::PathId,
    problem::{INTERNAL, Problem},
    timestamp,
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use super::{
    ApiState,
    api_key_request::{self, CreateApiKey},
    problems::API_KEY_NOT_FOUND,
    records::{self, Replayed},
};
use crate::{
    lookup::KeyLookup,
    store::{self, ApiKeyRow, Creation, KeyToStore, StoreError},
};

/// The keys in the database.
#[derive(Debug)]
pub struct StoredKeys(pub KeyLookup);

impl ApiKeyStore for StoredKeys {
    fn find(&self, hash: ApiKeyHash) -> BoxFuture<'_, Result<Option<ApiKey>, Problem>> {
        read(self.0.api_key(hash)).boxed()
    }
}

/// An API key.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ApiKey, examples(json!({
    "apiKeyId": "01a20008-a367-77bd-a6bf-eaa3667171b3",
    "name": "billing",
    "prefix": "pbk_1QxNWU9a",
    "userId": "key_01a20008-a367-77bd-a6bf-eaa3667171b3",
    "scopes": ["accounts:read", "deposits:write"],
    "createdBy": "ann",
    "createdAt": "2026-11-21T21:34:55.848209Z",
    "expiresAt": "2027-02-19T21:34:55.848209Z",
    "revokedAt": null,
})))]
struct ApiKeyView {
    #[schema(value_type = Uuid)]
    api_key_id: ApiKeyId,
    /// What the key is for.
    name: String,
    /// The beginning of the key, to recognize it.
    prefix: String,
    /// The key itself, for `Authorization: Bearer`. Only the response that created it has it: it
    /// is not stored.
    #[schema(pattern = "^pbk_[A-Za-z0-9_-]{43}$", nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    /// The user that the key acts as.
    user_id: String,
    /// What the key allows.
    scopes: Vec<String>,
    /// The user that created it.
    created_by: String,
    #[serde(with = "timestamp")]
    created_at: OffsetDateTime,
    /// From then on, the key is invalid.
    #[serde(with = "timestamp")]
    expires_at: OffsetDateTime,
    /// When it was revoked.
    #[schema(required)]
    #[serde(with = "timestamp::option")]
    revoked_at: Option<OffsetDateTime>,
}

impl From<ApiKeyRow> for ApiKeyView {
    fn from(row: ApiKeyRow) -> Self {
        Self {
            api_key_id: ApiKeyId::from_uuid(row.id),
            name: row.name,
            prefix: row.prefix,
            secret: None,
            user_id: row.user_id,
            scopes: row.scopes.split(' ').map(str::to_owned).collect(),
            created_by: row.created_by,
            created_at: row.created_at,
            expires_at: row.expires_at,
            revoked_at: row.revoked_at,
        }
    }
}

/// Create an API key
///
/// Only the response that creates the key has its `secret`. The same request with the same
/// `Idempotency-Key` gets the same key without it. If the first response was lost, revoke that key
/// and create another one with a new `Idempotency-Key`.
#[utoipa::path(post, path = "/v1/api-keys", tag = "API keys", operation_id = "createApiKey",
    params(OptionalIdempotencyKeyHeader),
    security(("token" = ["admin"])),
    request_body = CreateApiKey,
    responses((status = CREATED, body = ApiKeyView, description = "The key.",
        headers(("Location" = String, description = "The path of the key.")))))]
pub(super) async fn create(
    State(api): State<ApiState>,
    caller: Caller,
    headers: HeaderMap,
    JsonBody(body): JsonBody<CreateApiKey>,
) -> Result<Response, Problem> {
    caller.require(Scope::Admin)?;
    let request = body.parse(&caller)?;
    let key = idempotency_key::optional(&headers)?;
    // A retry may come when its `expiresAt` has passed.
    if let Some(key) = &key {
        let earlier = store::find_creation(&api.pool, &request, &caller.user_id, key);
        if let Some(creation) = read(earlier).await? {
            return replayed(creation);
        }
    }
    let expires_at = api_key_request::expiry(request.expires_at)?;
    let (new, id) = (NewApiKey::generate().map_err(failed)?, ApiKeyId::new());
    let own = key_caller(id).map_err(failed)?;
    let to_store = KeyToStore {
        id,
        secret_hash: new.hash,
        prefix: &new.prefix,
        user_id: request.user_id.as_ref().unwrap_or(&own),
        expires_at,
    };
    let remedy = "The key may have been created, and its secret is lost. Look for it in the list \
                  of keys, or send the request again with the same Idempotency-Key. Revoke it, \
                  then create another one.";
    let creator = Actor::new(&caller);
    let stored = store::create_api_key(&api.pool, &request, &to_store, creator, key.as_ref());
    match (write(remedy, stored).await?, &key) {
        (Some(row), _) => {
            tracing::info!(api_key = %id, prefix = new.prefix, "an API key was created");
            Ok(created(ApiKeyView { secret: Some(new.secret), ..row.into() }, Replayed::No))
        }
        // The same request arrived twice.
        (None, Some(key)) => {
            let earlier = store::find_creation(&api.pool, &request, &caller.user_id, key);
            let earlier = async { earlier.await?.ok_or(StoreError::MissingRecord) };
            replayed(after_write(remedy, read(earlier)).await?)
        }
        (None, None) => Err(failed("an API key was not stored")),
    }
}

/// The response to a retry, or to another request with the same key.
fn replayed(earlier: Creation) -> Result<Response, Problem> {
    match earlier {
        Creation::Same(row) => Ok(created(row.into(), Replayed::Yes)),
        Creation::Other => Err(records::key_reused().at_header("Idempotency-Key")),
    }
}

fn created(view: ApiKeyView, replayed: Replayed) -> Response {
    let location = format!("/v1/api-keys/{}", view.api_key_id);
    let mut response = (StatusCode::CREATED, [(LOCATION, location)], Json(view)).into_response();
    replayed.mark(&mut response);
    response
}

fn failed(error: impl std::fmt::Display) -> Problem {
    tracing::error!(%error, "an API key was not created");
    INTERNAL.because("No key could be created. Nothing was stored.")
}

/// The parameters of the query. Each may be left out.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ApiKeysQuery {
    /// Maximum items of the page.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 100, default = 20)]
    limit: Option<String>,
    /// The `nextCursor` of the previous page.
    #[param(min_length = 1)]
    cursor: Option<String>,
}

/// One page of keys.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ApiKeyPage)]
struct PageView {
    /// Newest first.
    items: Vec<ApiKeyView>,
    /// The `cursor` of the next page; null on the last one.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// List API keys
///
/// All keys, revoked and expired ones included. Newest first.
#[utoipa::path(get, path = "/v1/api-keys", tag = "API keys", operation_id = "listApiKeys",
    params(ApiKeysQuery),
    security(("token" = ["admin"])),
    responses((status = OK, body = PageView, description = "A page of keys.")))]
pub(super) async fn list(
    State(api): State<ApiState>,
    caller: Caller,
    query: Result<Query<ApiKeysQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    caller.require(Scope::Admin)?;
    let query = page::query(query, "limit and cursor")?;
    let page = Page::parse(query.limit.as_deref(), query.cursor.as_deref(), &[Some("api-keys")])?;
    let mut keys = read(store::list_api_keys(&api.pool, page.before, page.to_read())).await?;
    let next_cursor = page.cut(&mut keys, |key| key.id);
    let items = keys.into_iter().map(ApiKeyView::from).collect();
    Ok(Json(PageView { items, next_cursor }).into_response())
}

/// Revoke an API key
///
/// Within five seconds, no replica accepts it. A revoked key stays in the list. To revoke it again
/// changes nothing.
#[utoipa::path(delete, path = "/v1/api-keys/{key}", tag = "API keys", operation_id = "revokeApiKey",
    security(("token" = ["admin"])),
    params(("key" = Uuid, Path, description = "The id of the key.")),
    responses(
        (status = NO_CONTENT, description = "The key is revoked."),
        (status = NOT_FOUND, description = "api-key-not-found"),
    ))]
pub(super) async fn revoke(
    State(api): State<ApiState>,
    caller: Caller,
    PathId(id): PathId<ApiKeyId>,
) -> Result<Response, Problem> {
    caller.require(Scope::Admin)?;
    let remedy = "The key may be revoked. Send the request again.";
    let revoked = store::revoke_api_key(&api.pool, id, Actor::new(&caller));
    if !write(remedy, revoked).await? {
        return Err(API_KEY_NOT_FOUND.because(format!("No API key has the id {id}.")));
    }
    tracing::info!(api_key = %id, "an API key was revoked");
    Ok(StatusCode::NO_CONTENT.into_response())
}
