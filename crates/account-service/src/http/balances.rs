//! `/v1/accounts/{id}/balances`: the balance now, or at a past instant.

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    http::HeaderMap,
    response::Response,
};
use contract::{AccountId, Scope};
use runtime::http::{
    bearer::Caller,
    entity_tag::TaggedJson,
    openapi::IfNoneMatchHeader,
    page,
    path_id::PathId,
    problem::{INVALID_FIELD, Problem},
    timestamp,
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use super::{
    ApiState, accounts,
    consistency::{self, is_ledger, ledger_of},
    record_query::parse_time,
    schemas,
};
use crate::ledger_reads::BalanceAt;

/// A balance and its place in the account's history.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Balance, examples(json!({
    "balance": "8000",
    "accountSeq": 3,
    "at": "2026-11-30T00:00:00.000000Z",
})))]
struct BalanceView {
    /// The sum of the movements with SUCCESS until then. 0 before the first one.
    #[schema(value_type = schemas::Money)]
    balance: String,
    /// The number of the last movement in the balance; 0 before the first one.
    #[schema(minimum = 0)]
    account_seq: i64,
    /// The instant that the balance belongs to.
    #[serde(with = "timestamp")]
    at: OffsetDateTime,
}

/// The parameters of the query. Each may be left out.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct BalancesQuery {
    /// A past instant (RFC 3339, at most six decimals). The balance is that after all movements
    /// with an earlier time, by the ledger's clock and order.
    #[param(value_type = Option<String>, format = DateTime)]
    at: Option<String>,
    /// Where to read. With `at`, always from the ledger.
    #[param(inline, value_type = Option<schemas::Consistency>)]
    consistency: Option<String>,
}

/// Show a balance
///
/// With `at`: the balance at that instant, from the ledger. It is final: the same `at` gives the
/// same balance for ever, and equals the opening balance of a statement from that instant. A
/// movement at exactly that instant is not in it. `at` may not be in the future. If the ledger's
/// clock is set back, later movements get times that were asked for already: then the same `at`
/// may give another balance.
///
/// Without `at`: the present balance as this service's copy has it, and `at` is the time of the
/// answer. With `consistency=ledger`, it is the ledger's, with every movement that is committed
/// there, and `at` is the first instant after the last of them (1970 without any): the same `at`
/// gives this balance again. A movement that is committed at that moment can be in it, or not.
///
/// The answer waits for transactions that are open in the ledger, up to three seconds. If the
/// service reads a replica of the ledger, the present is that of the replica, and an instant of the
/// last minute can be unavailable.
#[utoipa::path(get, path = "/v1/accounts/{account}/balances", tag = "Accounts",
    operation_id = "getBalance",
    security(("token" = ["accounts:read"]), ("apiKey" = ["accounts:read"])),
    params(("account" = Uuid, Path, description = "The id of the account."), BalancesQuery,
        IfNoneMatchHeader),
    responses(
        (status = OK, body = BalanceView, description = "The balance.",
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
    query: Result<Query<BalancesQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    caller.require(Scope::AccountsRead)?;
    let query = page::query(query, "at and consistency")?;
    let at = query.at.as_deref().map(parse_instant).transpose()?;
    let from_ledger = is_ledger(query.consistency.as_deref())? || at.is_some();
    let view = if from_ledger {
        let ledger = ledger_of(&api)?;
        let currency = accounts::currency_of(&api, &caller, id).await?;
        let BalanceAt { position, at } =
            consistency::read(ledger.balance_at(id, currency, at)).await?;
        let (balance, account_seq) = (position.balance.to_string(), position.account_seq);
        BalanceView { balance, account_seq, at }
    } else {
        let account = accounts::usable(&api, &caller, id).await?;
        let (balance, account_seq) = (account.balance.to_string(), account.seq);
        BalanceView { balance, account_seq, at: OffsetDateTime::now_utc() }
    };
    Ok(TaggedJson::new(&view)?.unless_known(&headers))
}

/// The parameter `at`: an instant that PostgreSQL can compare exactly.
///
/// # Errors
/// `invalid-field`
pub fn parse_instant(text: &str) -> Result<OffsetDateTime, Problem> {
    let at = parse_time("at", text)?;
    if at.nanosecond() % 1_000 != 0 {
        let detail = "at must have at most six decimals: the ledger's times are microseconds.";
        return Err(INVALID_FIELD.because(detail).at_parameter("at"));
    }
    Ok(at)
}
