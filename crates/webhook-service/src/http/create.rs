//! `POST /v1/webhook-endpoints`

use account_service::events::EventKind;
use audit_log::Actor;
use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header::LOCATION},
    response::{IntoResponse, Response},
};
use contract::{Scope, WebhookEndpointId};
use runtime::http::{
    bearer::Caller,
    database::{after_write, read, write},
    idempotency_key::{self, KEY_REUSED},
    json_body::JsonBody,
    openapi::OptionalIdempotencyKeyHeader,
    problem::{INTERNAL, INVALID_FIELD, Problem},
};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::{
    Api, ApiState,
    endpoints::view,
    new_key::NewKey,
    problems::TOO_MANY_ENDPOINTS,
    url::UrlRules,
    view::{EndpointView, SignatureSchema},
};
use crate::{
    signature::Algorithm,
    store::{self, EndpointRow, EndpointToStore, Insertion},
};

/// Maximum endpoints of an owner.
const MAX_ENDPOINTS: i64 = 16;
/// Maximum characters of a description.
const LONGEST_DESCRIPTION: usize = 500;

/// The endpoint to create.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CreateWebhookEndpoint {
    /// Where events are posted: `https`, with a public host.
    #[schema(max_length = 2048)]
    pub(super) url: String,
    /// What the endpoint is for. Without control characters.
    #[schema(max_length = 500)]
    pub(super) description: Option<String>,
    /// The types of events to deliver. By default all, those of later releases included.
    #[schema(min_items = 1)]
    types: Option<Vec<String>>,
    /// How to sign. By default `v1`.
    #[schema(value_type = Option<SignatureSchema>, nullable = false)]
    signature: Option<String>,
    /// Deliver the events of all accounts instead of the caller's own. Needs the scope
    /// `accounts:any`.
    #[serde(default)]
    all_accounts: bool,
}

impl CreateWebhookEndpoint {
    /// Checks all parts. Gives the numbers of the types, and the algorithm.
    ///
    /// # Errors
    /// `invalid-field` or `webhook-url-not-allowed`
    pub(super) fn check(
        &self,
        rules: UrlRules<'_>,
    ) -> Result<(Option<Vec<i16>>, Algorithm), Problem> {
        rules.check(&self.url)?;
        check_description(self.description.as_deref())?;
        let types = parse_types(self.types.as_deref())?;
        Ok((types, parse_algorithm(self.signature.as_deref())?))
    }
}

/// Create a webhook endpoint
///
/// New events of the caller's accounts are posted to the URL, as `GET /v1/events` shows them,
/// signed by the standard-webhooks specification. Each is delivered at least once, and not always
/// in order: compare `sequence`. A delivery that fails is repeated for three days.
///
/// Only the response that creates the endpoint has its `secret`. The same request with the same
/// `Idempotency-Key` gets the same endpoint without it. If the first response was lost, rotate the
/// secret.
#[utoipa::path(post, path = "/v1/webhook-endpoints", tag = "Webhooks",
    operation_id = "createWebhookEndpoint",
    params(OptionalIdempotencyKeyHeader),
    security(("token" = ["webhooks:write", "events:read"]),
        ("apiKey" = ["webhooks:write", "events:read"])),
    request_body = CreateWebhookEndpoint,
    responses(
        (status = CREATED, body = EndpointView, description = "The endpoint.",
            headers(("Location" = String, description = "The path of the endpoint."))),
        (status = CONFLICT, description = "too-many-webhook-endpoints"),
        (status = UNPROCESSABLE_ENTITY, description = "webhook-url-not-allowed"),
    ))]
pub(super) async fn create(
    State(api): State<ApiState>,
    caller: Caller,
    headers: HeaderMap,
    JsonBody(body): JsonBody<CreateWebhookEndpoint>,
) -> Result<Response, Problem> {
    caller.require(Scope::WebhooksWrite)?;
    // An endpoint receives what the caller may read.
    caller.require(Scope::EventsRead)?;
    if body.all_accounts {
        caller.require(Scope::AccountsAny)?;
    }
    let (types, algorithm) = body.check(api.url_rules())?;
    let owner = (!body.all_accounts).then(|| caller.user_id.as_str());
    let request_hash = hash(&body, types.as_deref(), algorithm);
    let key = idempotency_key::optional(&headers)?;
    let (creator, text) = (caller.user_id.as_str(), key.as_ref().map(|key| key.as_str()));
    let remedy = "The endpoint may have been created, and its secret is lost. Look for it in the \
                  list of endpoints, or send the request again with the same Idempotency-Key. Then \
                  rotate its secret.";
    if let Some(text) = text {
        let earlier = store::find_endpoint_by_key(&api.pool, creator, text);
        if let Some(row) = read(earlier).await? {
            return after_write(remedy, replayed(&api, row, request_hash)).await;
        }
    }
    let id = WebhookEndpointId::new();
    let new = NewKey::generate(&api.sealing, id, algorithm)?;
    let endpoint = EndpointToStore {
        id: id.as_uuid(),
        owner,
        url: &body.url,
        description: body.description.as_deref(),
        types: types.as_deref(),
        created_by: creator,
        idempotency_key: text,
        request_hash,
    };
    let secret = new.to_store();
    let actor = Actor::new(&caller);
    let stored = store::insert_endpoint(&api.pool, &endpoint, &secret, actor, MAX_ENDPOINTS);
    match (write(remedy, stored).await?, text) {
        (Insertion::Stored(row), _) => {
            tracing::info!(webhook_endpoint = %id, "a webhook endpoint was created");
            Ok(created(EndpointView::new(*row, Some(&new.shown)).with_secret(new.secret)))
        }
        (Insertion::TooMany, _) => {
            let detail = format!("There may be {MAX_ENDPOINTS} endpoints.");
            Err(TOO_MANY_ENDPOINTS.because(detail))
        }
        // The same request arrived twice.
        (Insertion::KeyUsed, Some(text)) => {
            let earlier = async {
                let earlier = store::find_endpoint_by_key(&api.pool, creator, text);
                let row = read(earlier).await?.ok_or_else(not_stored)?;
                replayed(&api, row, request_hash).await
            };
            after_write(remedy, earlier).await
        }
        (Insertion::KeyUsed, None) => Err(not_stored()),
    }
}

fn not_stored() -> Problem {
    INTERNAL.because("The endpoint was not stored.")
}

/// The response to a retry, or to another request with the same key.
async fn replayed(api: &Api, row: EndpointRow, hash: [u8; 32]) -> Result<Response, Problem> {
    if row.request_hash != hash {
        let detail = "Send a new key for a new request, or the first request again.";
        return Err(KEY_REUSED.because(detail).at_header("Idempotency-Key"));
    }
    let mut response = created(view(api, row).await?);
    response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
    Ok(response)
}

fn created(view: EndpointView) -> Response {
    (StatusCode::CREATED, [(LOCATION, view.path())], Json(view)).into_response()
}

/// Two requests with one idempotency key are the same request if their hashes are equal.
fn hash(body: &CreateWebhookEndpoint, types: Option<&[i16]>, algorithm: Algorithm) -> [u8; 32] {
    let (url, all, algorithm) = (&body.url, body.all_accounts, algorithm.as_str());
    // The description comes last: no other part has a line break.
    let description = body.description.as_deref();
    let parts = format!("webhook\n{url}\n{all}\n{algorithm}\n{types:?}\n{description:?}");
    Sha256::digest(parts).into()
}

/// # Errors
/// `invalid-field`
pub(super) fn check_description(text: Option<&str>) -> Result<(), Problem> {
    let is_fine = |text: &str| {
        text.chars().count() <= LONGEST_DESCRIPTION && !text.chars().any(char::is_control)
    };
    if text.is_none_or(is_fine) {
        return Ok(());
    }
    let detail = format!(
        "description must be at most {LONGEST_DESCRIPTION} characters, no control characters."
    );
    Err(INVALID_FIELD.because(detail).at("description"))
}

/// The numbers of types, each once, in order.
///
/// # Errors
/// `invalid-field`
pub(super) fn parse_types(names: Option<&[String]>) -> Result<Option<Vec<i16>>, Problem> {
    let Some(names) = names else { return Ok(None) };
    let parse = |(index, name): (usize, &String)| {
        let kind = EventKind::parse(name).ok_or_else(|| {
            let known = EventKind::ALL.map(EventKind::as_str).join(", ");
            let detail = format!("types[{index}] must be one of {known}.");
            INVALID_FIELD.because(detail).at("types")
        })?;
        Ok(kind.code())
    };
    let mut codes: Vec<_> = names.iter().enumerate().map(parse).collect::<Result<_, _>>()?;
    if codes.is_empty() {
        return Err(INVALID_FIELD.because("types must have a type.").at("types"));
    }
    codes.sort_unstable();
    codes.dedup();
    Ok(Some(codes))
}

fn parse_algorithm(name: Option<&str>) -> Result<Algorithm, Problem> {
    let Some(name) = name else { return Ok(Algorithm::Hmac) };
    Algorithm::parse(name)
        .ok_or_else(|| INVALID_FIELD.because("signature must be v1 or v1a.").at("signature"))
}
