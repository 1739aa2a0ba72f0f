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
    },
    postgres::CALL_LIMIT,
};
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, serde::rfc3339};
use tokio::time::Instant;
use utoipa::ToSchema;

use super::{
    Api, ApiState, access,
    problems::{account_not_found, read, write},
    schemas,
};
use crate::store::{self, Account};

/// The account to open.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OpenAccount {
    /// The currency of the account, for ever.
    #[schema(value_type = schemas::Currency)]
    currency: String,
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
    "accountSeq": 3,
    "createdAt": "2026-11-21T21:34:55.848209Z",
    "updatedAt": "2026-11-21T21:34:56.120311Z",
})))]
struct AccountView {
    #[schema(value_type = Uuid)]
    account_id: AccountId,
    /// The `sub` of the token that opened the account.
    owner_id: String,
    #[schema(value_type = schemas::Currency)]
    currency: &'static str,
    /// `ACTIVE`: the account can be used.
    #[schema(examples("ACTIVE"))]
    status: String,
    /// The sum of all settled movements.
    #[schema(value_type = schemas::Money)]
    balance: String,
    /// The number of applied movements: a higher number is a later balance.
    #[schema(minimum = 0)]
    account_seq: i64,
    #[serde(with = "rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "rfc3339")]
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

/// Open an account
///
/// Opens an account that belongs to the caller.
#[utoipa::path(post, path = "/v1/accounts", tag = "Accounts", operation_id = "openAccount",
    request_body = OpenAccount,
    responses(
        (status = CREATED, body = AccountView, description = "The account is open.",
            headers(("Location" = String, description = "The path of the account."))),
    ))]
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

/// Show an account
///
/// The balance follows the ledger within milliseconds, and after an outage once the results have
/// arrived. `accountSeq` tells which of two balances is the later one.
#[utoipa::path(get, path = "/v1/accounts/{account}", tag = "Accounts", operation_id = "getAccount",
    params(("account" = Uuid, Path, description = "The id of the account.")),
    responses(
        (status = OK, body = AccountView, description = "The account."),
        (status = NOT_FOUND, description = "account-not-found"),
    ))]
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
