//! `/v1/accounts`: opens and shows accounts.

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header::LOCATION},
    response::{IntoResponse, Response},
};
use contract::{AccountId, Currency};
use runtime::{
    http::{
        bearer::Caller,
        json_body::JsonBody,
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
};
use crate::store::{self, Account};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OpenAccount {
    currency: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AccountView {
    account_id: AccountId,
    /// The user that opened the account.
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
    JsonBody(body): JsonBody<OpenAccount>,
) -> Result<Response, Problem> {
    let currency = Currency::parse(&body.currency)
        .map_err(|error| INVALID_FIELD.because(format!("currency {error}.")).at("currency"))?;
    let remedy = "The account may have been opened. Send the request again: an unused account \
                  does no harm.";
    let opened = store::open_account(&api.pool, AccountId::new(), &caller.user_id, currency);
    let account = write(Instant::now() + CALL_LIMIT, remedy, opened).await?;
    let location = format!("/v1/accounts/{}", account.id);
    let view = Json(AccountView::from(account));
    Ok((StatusCode::CREATED, [(LOCATION, location)], view).into_response())
}

pub(super) async fn show(
    State(api): State<ApiState>,
    caller: Caller,
    PathId(id): PathId<AccountId>,
) -> Result<Response, Problem> {
    let account = usable(&api, &caller, id).await?;
    Ok(Json(AccountView::from(account)).into_response())
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
    access::check_owner(caller, &owner)?;
    Ok(currency)
}

/// The account, if the caller may use it.
pub(super) async fn usable(api: &Api, caller: &Caller, id: AccountId) -> Result<Account, Problem> {
    let account = read(store::find_account(&api.pool, id)).await?;
    let account = account.ok_or_else(|| account_not_found(id))?;
    access::check_owner(caller, &account.owner)?;
    Ok(account)
}
