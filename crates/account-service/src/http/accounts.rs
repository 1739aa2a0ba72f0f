//! `/v1/accounts`: opens, shows and lists accounts.

use std::collections::BTreeMap;

use audit_log::Actor;
use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode, header::LOCATION},
    response::{IntoResponse, Response},
};
use contract::{AccountId, Currency, Scope, UserId};
use runtime::http::{
    bearer::Caller,
    database::{after_write, read, write},
    entity_tag::TaggedJson,
    idempotency_key,
    json_body::JsonBody,
    openapi::{IfNoneMatchHeader, OptionalIdempotencyKeyHeader},
    page::{self, Page},
    parameter::{self, unknown},
    path_id::PathId,
    problem::{INVALID_FIELD, Problem},
    timestamp,
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use super::{
    Api, ApiState, access,
    consistency::{self, ConsistencyQuery},
    labels::{self, Entries, MetadataSchema},
    problems::account_not_found,
    records::{self, Replayed},
    schemas,
};
use crate::{
    labels::Reference,
    store::{self, Account, NewAccount, Opened, PendingAmounts},
};

/// The account to open.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct OpenAccount {
    /// The currency of the account, for ever.
    #[schema(value_type = schemas::Currency)]
    currency: String,
    /// The owner: the caller by default. Another one needs the scope `accounts:any`.
    #[schema(min_length = 1, max_length = 255, pattern = "^[!-~]+$", nullable = false)]
    owner_id: Option<String>,
    /// The client's own name for the account, such as the number of a customer. It need not be
    /// unique. Without control characters.
    #[schema(min_length = 1, max_length = 255, nullable = false)]
    reference: Option<String>,
    #[schema(value_type = Option<MetadataSchema>, nullable = false)]
    metadata: Option<Entries>,
}

/// An account, with its balance as projected from the ledger.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Account, examples(json!({
    "accountId": "01a20008-a367-77bd-a6bf-eaa3667171b3",
    "ownerId": "ann",
    "currency": "KRW",
    "status": "ACTIVE",
    "balance": "8000",
    "pendingIn": "500",
    "pendingOut": "3000",
    "available": "5000",
    "accountSeq": 3,
    "reference": "customer 17",
    "metadata": {},
    "createdAt": "2026-11-21T21:34:55.848209Z",
    "updatedAt": "2026-11-21T21:34:56.120311Z",
})))]
struct AccountView {
    #[schema(value_type = Uuid)]
    account_id: AccountId,
    /// The user that the account belongs to.
    owner_id: String,
    #[schema(value_type = schemas::Currency)]
    currency: &'static str,
    /// `ACTIVE`: the account can be used.
    #[schema(examples("ACTIVE"))]
    status: String,
    /// The posted amount: the sum of the movements with SUCCESS whose results this service has.
    /// The ledger may be ahead for a moment.
    #[schema(value_type = schemas::Money)]
    balance: String,
    /// The sum of the PENDING deposits. Lists of accounts leave it out.
    #[schema(value_type = Option<schemas::Sum>, nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pending_in: Option<String>,
    /// The sum of the PENDING withdrawals. Lists of accounts leave it out.
    #[schema(value_type = Option<schemas::Sum>, nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pending_out: Option<String>,
    /// `balance` without `pendingOut`: what withdrawals can still take. PENDING deposits do not
    /// count. Below zero if the ledger will refuse one of the withdrawals. Lists of accounts leave
    /// it out.
    #[schema(value_type = Option<schemas::Sum>, nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    available: Option<String>,
    /// The number of the last movement in the balance; 0 for an account without one. A higher
    /// number is a later balance.
    #[schema(minimum = 0)]
    account_seq: i64,
    /// The client's own name for the account.
    #[schema(required)]
    reference: Option<String>,
    #[schema(value_type = MetadataSchema)]
    metadata: BTreeMap<String, String>,
    /// When the account was opened.
    #[serde(with = "timestamp")]
    created_at: OffsetDateTime,
    /// When the balance last changed; before that, when the account was opened.
    #[serde(with = "timestamp")]
    updated_at: OffsetDateTime,
}

impl From<(Account, PendingAmounts)> for AccountView {
    fn from((account, pending): (Account, PendingAmounts)) -> Self {
        Self {
            pending_in: Some(pending.incoming),
            pending_out: Some(pending.outgoing),
            available: Some(pending.available),
            ..account.into()
        }
    }
}

impl From<Account> for AccountView {
    fn from(account: Account) -> Self {
        Self {
            account_id: account.id,
            owner_id: account.owner.to_string(),
            currency: account.currency.code(),
            status: account.status,
            balance: account.balance.to_string(),
            pending_in: None,
            pending_out: None,
            available: None,
            account_seq: account.seq,
            reference: account.labels.reference.map(|text| text.as_str().to_owned()),
            metadata: account.labels.metadata.entries().clone(),
            created_at: account.created_at,
            updated_at: account.updated_at,
        }
    }
}

/// Open an account
///
/// Opens an account that belongs to the caller.
#[utoipa::path(post, path = "/v1/accounts", tag = "Accounts", operation_id = "openAccount",
    params(OptionalIdempotencyKeyHeader),
    security(("token" = ["accounts:write"]), ("apiKey" = ["accounts:write"])),
    request_body = OpenAccount,
    responses(
        (status = CREATED, body = AccountView, description = "The account is open.",
            headers(("Location" = String, description = "The path of the account."),
                ("ETag" = String, description = "Of this representation."))),
    ))]
pub(super) async fn open(
    State(api): State<ApiState>,
    caller: Caller,
    headers: HeaderMap,
    JsonBody(body): JsonBody<OpenAccount>,
) -> Result<Response, Problem> {
    caller.require(Scope::AccountsWrite)?;
    let currency = Currency::parse(&body.currency)
        .map_err(|error| INVALID_FIELD.because(format!("currency {error}.")).at("currency"))?;
    let owner = match body.owner_id {
        None => caller.user_id.clone(),
        Some(owner) => UserId::try_from(owner)
            .map_err(|error| INVALID_FIELD.because(format!("ownerId {error}.")).at("ownerId"))?,
    };
    if !caller.may_use(owner.as_str()) {
        caller.require(Scope::AccountsAny)?;
    }
    let labels = labels::of_account(body.reference, body.metadata)?;
    let new = NewAccount { id: AccountId::new(), owner, currency, labels };
    let actor = Actor::new(&caller);
    let Some(key) = idempotency_key::optional(&headers)? else {
        let remedy = "The account may have been opened. Send the request again: an unused \
                      account does no harm.";
        let account = write(remedy, store::open_account(&api.pool, &new, actor)).await?;
        return newly_opened(account);
    };
    let remedy = "The account may have been opened. Send the request again with the same \
                  Idempotency-Key: it is opened once at most.";
    let once = store::open_account_once(&api.pool, &new, actor, &key);
    match write(remedy, once).await? {
        Opened::New(account) => newly_opened(account),
        Opened::Replayed(account) => {
            let found = after_write(remedy, with_pending(&api, account.id));
            let (account, pending) = found.await?;
            opened(account, pending, Replayed::Yes)
        }
        Opened::KeyReused => Err(records::key_reused().at_header("Idempotency-Key")),
    }
}

fn newly_opened(account: Account) -> Result<Response, Problem> {
    let pending = PendingAmounts::none(account.currency, account.balance);
    opened(account, pending, Replayed::No)
}

/// An account with its PENDING amounts, for a caller who may use it.
async fn with_pending(api: &Api, id: AccountId) -> Result<(Account, PendingAmounts), Problem> {
    let account = read(store::find_account_with_pending(&api.pool, id)).await?;
    account.ok_or_else(|| account_not_found(id))
}

/// The response to a request to open an account.
fn opened(
    account: Account,
    pending: PendingAmounts,
    replayed: Replayed,
) -> Result<Response, Problem> {
    let location = format!("/v1/accounts/{}", account.id);
    let view = TaggedJson::new(&AccountView::from((account, pending)))?;
    let mut response = (StatusCode::CREATED, [(LOCATION, location)], view).into_response();
    replayed.mark(&mut response);
    Ok(response)
}

/// Show an account
///
/// By default, the balance is this service's copy. It follows the ledger within milliseconds, and
/// after an outage once the results have arrived. `accountSeq` tells which of two balances is the
/// later one. A movement is in the balance once its record shows SUCCESS.
///
/// With `consistency=ledger`, balance and `accountSeq` are the ledger's, or newer. Movements that
/// the ledger has decided are not PENDING any more; of an account with more than 1,000 PENDING
/// records, only the oldest 1,000 are looked up. `available` is never too high: each accepted
/// withdrawal is in `balance`, in `pendingOut`, or refused.
#[utoipa::path(get, path = "/v1/accounts/{account}", tag = "Accounts", operation_id = "getAccount",
    security(("token" = ["accounts:read"]), ("apiKey" = ["accounts:read"])),
    params(("account" = Uuid, Path, description = "The id of the account."), ConsistencyQuery,
        IfNoneMatchHeader),
    responses(
        (status = OK, body = AccountView, description = "The account.",
            headers(("ETag" = String, description = "Of this representation."))),
        (status = NOT_MODIFIED, description = "The client has this state."),
        (status = NOT_FOUND, description = "account-not-found"),
        (status = NOT_IMPLEMENTED, description = "ledger-reads-off"),
        (status = SERVICE_UNAVAILABLE, description = "ledger-unavailable"),
    ))]
pub(super) async fn show(
    State(api): State<ApiState>,
    caller: Caller,
    PathId(id): PathId<AccountId>,
    query: Result<Query<ConsistencyQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    caller.require(Scope::AccountsRead)?;
    let ledger = ConsistencyQuery::ledger(query, &api)?;
    // The owner is checked first: sums cost more than the account.
    let currency = currency_of(&api, &caller, id).await?;
    let account = match ledger {
        None => with_pending(&api, id).await?,
        Some(ledger) => {
            let account = consistency::read(ledger.account(&api.pool, id, currency)).await?;
            account.ok_or_else(|| account_not_found(id))?
        }
    };
    Ok(TaggedJson::new(&AccountView::from(account))?.unless_known(&headers))
}

/// The parameters of the query. Each may be left out.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AccountsQuery {
    /// Only accounts of this owner. To a customer, other owners have none.
    #[param(min_length = 1, max_length = 255, pattern = "^[!-~]+$")]
    owner_id: Option<String>,
    /// `ACTIVE`.
    status: Option<String>,
    /// Only accounts with this reference.
    #[param(min_length = 1, max_length = 255)]
    reference: Option<String>,
    /// Maximum items of the page.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 100, default = 20)]
    limit: Option<String>,
    /// The `nextCursor` of the previous page. All other parameters but `limit` must be the same.
    #[param(min_length = 1)]
    cursor: Option<String>,
}

/// One page of accounts.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AccountPage)]
struct PageView {
    /// Newest first.
    items: Vec<AccountView>,
    /// The `cursor` of the next page; null on the last one.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// List accounts
///
/// A customer's own accounts; with the scope `accounts:any` all accounts, or those of an owner.
/// Newest first.
#[utoipa::path(get, path = "/v1/accounts", tag = "Accounts", operation_id = "listAccounts",
    params(AccountsQuery),
    security(("token" = ["accounts:read"]), ("apiKey" = ["accounts:read"])),
    responses((status = OK, body = PageView, description = "A page of accounts.")))]
pub(super) async fn list(
    State(api): State<ApiState>,
    caller: Caller,
    query: Result<Query<AccountsQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    caller.require(Scope::AccountsRead)?;
    let query = page::query(query, "ownerId, status, reference, limit and cursor")?;
    let owner = query.owner_id.map(|owner| parameter::user("ownerId", owner)).transpose()?;
    let is_hidden = owner.as_ref().is_some_and(|owner| !caller.may_use(owner.as_str()));
    let owner = owner.or_else(|| access::only_owner(&caller));
    // All accounts are ACTIVE: the filter needs no index.
    if query.status.as_deref().is_some_and(|status| status != "ACTIVE") {
        return Err(unknown("status", &["ACTIVE"]));
    }
    let reference = query.reference.map(labels::in_query).transpose()?;
    let list = [
        Some("accounts"),
        owner.as_ref().map(UserId::as_str),
        query.status.as_deref(),
        reference.as_ref().map(Reference::as_str),
    ];
    let page = Page::parse(query.limit.as_deref(), query.cursor.as_deref(), &list)?;
    let before = page.before.map(AccountId::from_uuid);
    let (pool, limit) = (&api.pool, page.to_read());
    let mut accounts = match (&owner, &reference) {
        _ if is_hidden => Vec::new(),
        (owner, Some(reference)) => {
            let owner = owner.as_ref();
            read(store::list_accounts_by_reference(pool, reference, owner, before, limit)).await?
        }
        (Some(owner), None) => read(store::list_accounts_of(pool, owner, before, limit)).await?,
        (None, None) => read(store::list_accounts(pool, before, limit)).await?,
    };
    let next_cursor = page.cut(&mut accounts, |account| account.id.as_uuid());
    let items = accounts.into_iter().map(AccountView::from).collect();
    Ok(Json(PageView { items, next_cursor }).into_response())
}

/// The currency of an account that the caller may use.
pub(super) async fn currency_of(
    api: &Api,
    caller: &Caller,
    id: AccountId,
) -> Result<Currency, Problem> {
    let account = match api.lookup.cached_account(id) {
        Some(account) => Some(account),
        None => read(api.lookup.account(id)).await?,
    };
    let (owner, currency) = account.ok_or_else(|| account_not_found(id))?;
    access::check_owner(caller, &owner, || account_not_found(id))?;
    Ok(currency)
}

/// The account, if the caller may use it.
pub(super) async fn usable(api: &Api, caller: &Caller, id: AccountId) -> Result<Account, Problem> {
    let account = read(store::find_account(&api.pool, id)).await?;
    let account = account.ok_or_else(|| account_not_found(id))?;
    access::check_owner(caller, &account.owner, || account_not_found(id))?;
    Ok(account)
}
