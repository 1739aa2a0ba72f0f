//! `POST /v1/accounts/{id}/deposits` and `/withdrawals`: the way into the
//! system.
//!
//! Once the record is committed the request has been accepted, whatever
//! happens to this process after that; so everything that can refuse it comes
//! before.

use axum::{Extension, extract::State, http::HeaderMap, response::Response};
use contract::{AccountId, Amount, Currency, Kind, RecordId};
use runtime::{
    http::JsonBody,
    problem::{INVALID_FIELD, Problem},
    trace::Trace,
};
use serde::Deserialize;

use super::{
    Shared, accounts,
    auth::Caller,
    path::PathId,
    prefer,
    problems::{KEY_MALFORMED, KEY_MISSING, KEY_REUSED, ask},
    records::{self, Replayed},
};
use crate::{
    record::{IdempotencyKey, NewRecord, Record},
    store::Accepted,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Movement {
    amount: String,
}

pub(super) async fn deposit(
    api: State<Shared>,
    caller: Caller,
    account: PathId<AccountId>,
    headers: HeaderMap,
    trace: Extension<Trace>,
    body: JsonBody<Movement>,
) -> Result<Response, Problem> {
    answer(Kind::Deposit, api, caller, account, headers, trace, body).await
}

pub(super) async fn withdraw(
    api: State<Shared>,
    caller: Caller,
    account: PathId<AccountId>,
    headers: HeaderMap,
    trace: Extension<Trace>,
    body: JsonBody<Movement>,
) -> Result<Response, Problem> {
    answer(Kind::Withdrawal, api, caller, account, headers, trace, body).await
}

async fn answer(
    kind: Kind,
    State(api): State<Shared>,
    caller: Caller,
    PathId(account): PathId<AccountId>,
    headers: HeaderMap,
    Extension(trace): Extension<Trace>,
    JsonBody(body): JsonBody<Movement>,
) -> Result<Response, Problem> {
    let key = idempotency_key(&headers)?;
    let id = RecordId::new();
    let patience = prefer::wait(&headers, api.longest_wait);
    // Begun before there can be news, so that none is missed.
    let news = patience.and_then(|_| api.settled.wait_for(id));
    let currency = accounts::currency_of(&api, &caller, account).await?;
    let new = Wanted { id, kind, account, key, amount: &body.amount }.record(&caller, currency)?;
    let stored = ask(api.acceptance.accept(new, trace)).await?;
    let (record, replayed) = accepted(stored, "Idempotency-Key")?;
    Ok(records::answer(&api, record, patience, replayed, news).await)
}

/// A movement as a client asks for it.
pub(super) struct Wanted<'a> {
    /// The id that its record will have, if it is new.
    pub(super) id: RecordId,
    pub(super) kind: Kind,
    pub(super) account: AccountId,
    pub(super) key: IdempotencyKey,
    pub(super) amount: &'a str,
}

impl Wanted<'_> {
    /// The record that this becomes, in an account of this currency.
    pub(super) fn record(self, caller: &Caller, currency: Currency) -> Result<NewRecord, Problem> {
        let amount = Amount::parse(self.amount, currency)
            .map_err(|error| INVALID_FIELD.because(format!("amount: {error}.")).at("amount"))?;
        Ok(NewRecord {
            id: self.id,
            account_id: self.account,
            key: self.key,
            user_id: caller.user_id.clone(),
            kind: self.kind,
            amount,
            currency,
        })
    }
}

/// The record that a request stands for; `key_field` is where the request has
/// its key.
pub(super) fn accepted(
    accepted: Accepted,
    key_field: &'static str,
) -> Result<(Record, Replayed), Problem> {
    match accepted {
        Accepted::New(record) => Ok((record, Replayed::No)),
        Accepted::Replayed(record) => Ok((record, Replayed::Yes)),
        Accepted::KeyReused => {
            let detail = "Send a new key for a new request, or the first request again.";
            Err(KEY_REUSED.because(detail).at(key_field))
        }
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<IdempotencyKey, Problem> {
    const WHAT: &str =
        "1 to 255 visible ASCII characters, once, the same for every try of a request";
    let mut given = headers.get_all("idempotency-key").into_iter();
    let Some(value) = given.next() else {
        return Err(KEY_MISSING.because(format!("Send {WHAT}.")).at("Idempotency-Key"));
    };
    let key = value.to_str().ok().and_then(IdempotencyKey::parse);
    match (key, given.next()) {
        (Some(key), None) => Ok(key),
        _ => Err(KEY_MALFORMED.because(format!("It must be {WHAT}.")).at("Idempotency-Key")),
    }
}
