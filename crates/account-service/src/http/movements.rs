//! `POST /v1/accounts/{id}/deposits` and `/withdrawals`: the entry into the
//! system.
//!
//! A request is accepted once its record is committed, even if this process crashes
//! right afterwards. Every check that can reject the request therefore precedes the
//! commit.

use axum::{Extension, extract::State, http::HeaderMap, response::Response};
use contract::{AccountId, Amount, Currency, Kind, RecordId, Scope};
use runtime::{
    http::{
        bearer::Caller,
        database::write_until,
        idempotency_key::{self, IdempotencyKey},
        json_body::JsonBody,
        openapi::{IdempotencyKeyHeader, PreferHeader},
        path_id::PathId,
        prefer,
        problem::{INVALID_FIELD, Problem},
    },
    postgres::CALL_LIMIT,
    telemetry::trace::Trace,
};
use serde::Deserialize;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::{
    ApiState, accounts,
    labels::{self, Entries, MetadataSchema},
    problems::queue,
    records::{self, RecordView, Replayed},
    schemas,
};
use crate::{
    labels::Labels,
    record::{NewRecord, Record},
    store::Accepted,
};

/// The remedy for a movement with an unknown outcome.
pub(super) const SEND_AGAIN: &str = "The database did not answer in time, so the request may have \
    been stored. Send it again with the same Idempotency-Key: it is stored once at most.";

/// The money to move.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Movement)]
pub(super) struct MovementBody {
    /// The amount to move, above zero, with at most the currency's decimals.
    #[schema(value_type = schemas::Amount)]
    pub(super) amount: String,
    /// The account's currency. Another one is refused, so that an amount is never booked in a
    /// currency that the client did not mean.
    #[schema(value_type = Option<schemas::Currency>, nullable = false)]
    pub(super) currency: Option<String>,
    /// The client's own name for the movement, such as the number of an invoice. It need not be
    /// unique. Without control characters.
    #[schema(min_length = 1, max_length = 255, nullable = false)]
    pub(super) reference: Option<String>,
    /// A note. Without control characters, except line breaks and tabs.
    #[schema(min_length = 1, max_length = 1000, nullable = false)]
    pub(super) description: Option<String>,
    #[schema(value_type = Option<MetadataSchema>, nullable = false)]
    pub(super) metadata: Option<Entries>,
}

/// Deposit money
///
/// The movement is durable once the response arrives, and is applied exactly once. Without a
/// response, send the request again with the same key.
#[utoipa::path(post, path = "/v1/accounts/{account}/deposits", tag = "Movements",
    operation_id = "deposit",
    security(("token" = ["deposits:write"]), ("apiKey" = ["deposits:write"])),
    params(
        ("account" = Uuid, Path, description = "The id of the account."),
        IdempotencyKeyHeader,
        PreferHeader,
    ),
    request_body = MovementBody,
    responses(
        (status = OK, body = RecordView, description = "After a wait: the record is settled.",
            headers(("Location" = String, description = "The path of the record."),
                ("ETag" = String, description = "Of this representation."))),
        (status = ACCEPTED, body = RecordView, description = "The request is durable.",
            headers(("Location" = String, description = "The path of the record."),
                ("ETag" = String, description = "Of this representation."))),
        (status = NOT_FOUND, description = "account-not-found"),
    ))]
pub(super) async fn deposit(
    api: State<ApiState>,
    caller: Caller,
    account: PathId<AccountId>,
    headers: HeaderMap,
    trace: Extension<Trace>,
    body: JsonBody<MovementBody>,
) -> Result<Response, Problem> {
    accept(Kind::Deposit, api, caller, account, headers, trace, body).await
}

/// Withdraw money
///
/// As a deposit. If the balance is too low, the record settles as FAILED with the reason
/// INSUFFICIENT_FUNDS.
#[utoipa::path(post, path = "/v1/accounts/{account}/withdrawals", tag = "Movements",
    operation_id = "withdraw",
    security(("token" = ["withdrawals:write"]), ("apiKey" = ["withdrawals:write"])),
    params(
        ("account" = Uuid, Path, description = "The id of the account."),
        IdempotencyKeyHeader,
        PreferHeader,
    ),
    request_body = MovementBody,
    responses(
        (status = OK, body = RecordView, description = "After a wait: the record is settled.",
            headers(("Location" = String, description = "The path of the record."),
                ("ETag" = String, description = "Of this representation."))),
        (status = ACCEPTED, body = RecordView, description = "The request is durable.",
            headers(("Location" = String, description = "The path of the record."),
                ("ETag" = String, description = "Of this representation."))),
        (status = NOT_FOUND, description = "account-not-found"),
    ))]
pub(super) async fn withdraw(
    api: State<ApiState>,
    caller: Caller,
    account: PathId<AccountId>,
    headers: HeaderMap,
    trace: Extension<Trace>,
    body: JsonBody<MovementBody>,
) -> Result<Response, Problem> {
    accept(Kind::Withdrawal, api, caller, account, headers, trace, body).await
}

async fn accept(
    kind: Kind,
    State(api): State<ApiState>,
    caller: Caller,
    PathId(account): PathId<AccountId>,
    headers: HeaderMap,
    Extension(trace): Extension<Trace>,
    JsonBody(body): JsonBody<MovementBody>,
) -> Result<Response, Problem> {
    let key = idempotency_key::of_request(&headers)?;
    let id = RecordId::new();
    let patience = prefer::wait(&headers, api.longest_wait);
    // The wait starts before the record exists, so that no notification is missed.
    let wait = patience.and_then(|_| api.waiters.wait_for(id));
    let currency = accounts::currency_of(&api, &caller, account).await?;
    let asserted = body.currency.as_deref();
    let labels = labels::of_movement(body.reference, body.description, body.metadata)?;
    let request =
        MovementRequest { id, kind, account, key, amount: &body.amount, asserted, labels };
    let record = request.new_record(&caller, currency)?;
    let deadline = Instant::now() + CALL_LIMIT;
    let queued = queue(deadline, api.acceptor.enqueue(record, trace)).await?;
    let accepted = write_until(deadline, SEND_AGAIN, queued.committed()).await?;
    let reused = |problem: Problem| problem.at_header("Idempotency-Key");
    let (record, replayed) = accepted_record(accepted).map_err(reused)?;
    records::respond(&api, record, patience, replayed, wait).await
}

/// A client's request to move money.
pub(super) struct MovementRequest<'a> {
    /// The id for a new record. It is not used if the request is a retry.
    pub(super) id: RecordId,
    pub(super) kind: Kind,
    pub(super) account: AccountId,
    pub(super) key: IdempotencyKey,
    pub(super) amount: &'a str,
    /// The currency that the client takes the account's for.
    pub(super) asserted: Option<&'a str>,
    pub(super) labels: Labels,
}

impl MovementRequest<'_> {
    /// The record to store, in an account of this currency.
    ///
    /// # Errors
    /// `forbidden`, `invalid-field`
    pub(super) fn new_record(
        self,
        caller: &Caller,
        currency: Currency,
    ) -> Result<NewRecord, Problem> {
        caller.require(match self.kind {
            Kind::Deposit => Scope::DepositsWrite,
            Kind::Withdrawal => Scope::WithdrawalsWrite,
        })?;
        if let Some(asserted) = self.asserted {
            check_currency(asserted, currency)?;
        }
        let amount = Amount::parse(self.amount, currency)
            .map_err(|error| INVALID_FIELD.because(format!("amount: {error}.")).at("amount"))?;
        Ok(NewRecord {
            id: self.id,
            account_id: self.account,
            key: self.key,
            user_id: caller.user_id.clone(),
            api_key: caller.api_key,
            kind: self.kind,
            amount,
            currency,
            labels: self.labels,
        })
    }
}

/// Checks that the client means the account's currency.
fn check_currency(asserted: &str, currency: Currency) -> Result<(), Problem> {
    let detail = match Currency::parse(asserted) {
        Ok(asserted) if asserted == currency => return Ok(()),
        Ok(asserted) => format!("The account's currency is {currency}, not {asserted}."),
        Err(error) => format!("currency {error}."),
    };
    Err(INVALID_FIELD.because(detail).at("currency"))
}

/// The record of a request, or the problem of a reused key.
pub(super) fn accepted_record(accepted: Accepted) -> Result<(Record, Replayed), Problem> {
    match accepted {
        Accepted::New(record) => Ok((record, Replayed::No)),
        Accepted::Replayed(record) => Ok((record, Replayed::Yes)),
        Accepted::KeyReused => Err(records::key_reused()),
    }
}
