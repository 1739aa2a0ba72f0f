//! `/v1/accounts`: opens, shows and lists accounts.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode, header::LOCATION},
    response::{IntoResponse, Response},
};
use contract::{AccountId, Currency, Scope, UserId};
use runtime::{
    http::{
        bearer::Caller,
        idempotency_key,
        json_body::JsonBody,
        page::{self, Page},
        path_id::PathId,
        problem::{INVALID_FIELD, Problem},
        timestamp,
    },
    postgres::CALL_LIMIT,
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::{
    Api, ApiState, access,
    problems::{account_not_found, read, write},
    record_query::{parse_user, unknown},
    records::{self, Replayed},
};
use crate::store::{self, Account, NewAccount, Opened};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct OpenAccount {
    /// Three letters of ISO 4217.
    currency: String,
    /// The owner: the caller by default. Another one needs the scope `accounts:any`.
    owner_id: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AccountView {
    account_id: AccountId,
    /// The user that the account belongs to.
    owner_id: String,
    /// Three letters of ISO 4217.
    currency: &'static str,
    /// `ACTIVE`.
    status: String,
    /// The posted amount, with the currency's decimals: the sum of the movements with SUCCESS
    /// whose results this service has. The ledger may be ahead for a moment.
    balance: String,
    /// The number of the last movement in the balance; 0 for an account without one.
    account_seq: i64,
    /// When the account was opened.
    #[serde(with = "timestamp")]
    created_at: OffsetDateTime,
    /// When the balance last changed; before that, when the account was opened.
    #[serde(with = "timestamp")]
    updated_at: OffsetDateTime,
}

impl From<Account> for AccountView {
    fn from(account: Account) -> Self {
        Self {
            account_id: account.id,
            owner_id: account.owner.to_string(),
            currency: account.currency.code(),
            status: account.status,
            balance: account.balance.to_string(),
            account_seq: account.seq,
            created_at: account.created_at,
            updated_at: account.updated_at,
        }
    }
}

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
    let new = NewAccount { id: AccountId::new(), owner, currency };
    let deadline = Instant::now() + CALL_LIMIT;
    let Some(key) = idempotency_key::optional(&headers)? else {
        let remedy = "The account may have been opened. Send the request again: an unused \
                      account does no harm.";
        let account = write(deadline, remedy, store::open_account(&api.pool, &new)).await?;
        return Ok(opened(account, Replayed::No));
    };
    let remedy = "The account may have been opened. Send the request again with the same \
                  Idempotency-Key: it is opened once at most.";
    let once = store::open_account_once(&api.pool, &new, &caller.user_id, &key);
    match write(deadline, remedy, once).await? {
        Opened::New(account) => Ok(opened(account, Replayed::No)),
        Opened::Replayed(account) => Ok(opened(account, Replayed::Yes)),
        Opened::KeyReused => Err(records::key_reused().at_header("Idempotency-Key")),
    }
}

/// The response to a request to open an account.
fn opened(account: Account, replayed: Replayed) -> Response {
    let location = format!("/v1/accounts/{}", account.id);
    let view = Json(AccountView::from(account));
    let mut response = (StatusCode::CREATED, [(LOCATION, location)], view).into_response();
    replayed.mark(&mut response);
    response
}

pub(super) async fn show(
    State(api): State<ApiState>,
    caller: Caller,
    PathId(id): PathId<AccountId>,
) -> Result<Response, Problem> {
    caller.require(Scope::AccountsRead)?;
    let account = usable(&api, &caller, id).await?;
    Ok(Json(AccountView::from(account)).into_response())
}

/// The parameters of the query. Each may be left out.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct AccountsQuery {
    /// Only accounts of this owner. To a customer, other owners have none.
    owner_id: Option<String>,
    /// `ACTIVE`.
    status: Option<String>,
    /// Maximum items of the page: 1 to 100, 20 by default.
    limit: Option<String>,
    /// The `nextCursor` of the previous page. All other parameters but `limit` must be the same.
    cursor: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PageView {
    /// Newest first.
    items: Vec<AccountView>,
    /// The parameter `cursor` of the next page. `null` at the end of the list.
    next_cursor: Option<String>,
}

/// Lists a customer's own accounts, and to others all accounts or those of an owner.
pub(super) async fn list(
    State(api): State<ApiState>,
    caller: Caller,
    query: Result<Query<AccountsQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    caller.require(Scope::AccountsRead)?;
    let query = page::query(query, "ownerId, status, limit and cursor")?;
    let owner = query.owner_id.map(|owner| parse_user("ownerId", owner)).transpose()?;
    let is_hidden = owner.as_ref().is_some_and(|owner| !caller.may_use(owner.as_str()));
    let owner = owner.or_else(|| access::only_owner(&caller));
    // All accounts are ACTIVE: the filter needs no index.
    if query.status.as_deref().is_some_and(|status| status != "ACTIVE") {
        return Err(unknown("status", &["ACTIVE"]));
    }
    let list = [Some("accounts"), owner.as_ref().map(UserId::as_str), query.status.as_deref()];
    let page = Page::parse(query.limit.as_deref(), query.cursor.as_deref(), &list)?;
    let before = page.before.map(AccountId::from_uuid);
    let mut accounts = match &owner {
        _ if is_hidden => Vec::new(),
        Some(owner) => {
            read(store::list_accounts_of(&api.pool, owner, before, page.to_read())).await?
        }
        None => read(store::list_accounts(&api.pool, before, page.to_read())).await?,
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
