//! `POST /v1/batches`: many movements in one request, each for itself.
//!
//! An item is accepted or refused just as it would be alone, under its own key;
//! nothing holds the items together. So a batch that got no answer is sent
//! again as it was: what is stored answers, the rest is stored now.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use axum::{
    Extension, Json,
    extract::{FromRequest, Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use contract::{AccountId, Currency, Kind, RecordId};
use futures::future::join_all;
use runtime::{
    http::JsonBody,
    problem::{INVALID_FIELD, Problem, UNAVAILABLE},
    trace::Trace,
};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout};

use super::{
    Api, Shared, accounts,
    auth::Caller,
    movements::{self, Wanted},
    problems::{KEY_MALFORMED, LONGEST_ANSWER, MALFORMED_ID, account_not_found, ask_until},
    records::{RecordView, Replayed},
};
use crate::{
    record::{IdempotencyKey, NewRecord},
    store::Accepted,
};

/// Movements in a batch at most.
const MOST_ITEMS: usize = 1000;
/// A thousand items with the longest keys and some white space.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Batches that are worked on at a time: each takes a few megabytes.
pub(super) const AT_ONCE: usize = 8;
/// How long a batch may wait for its turn.
const LONGEST_QUEUE: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch {
    items: Vec<Item>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Item {
    account_id: String,
    r#type: Kind,
    amount: String,
    idempotency_key: String,
}

#[derive(Serialize)]
struct BatchView {
    items: Vec<ItemView>,
}

/// What the item would have been answered alone.
#[derive(Serialize)]
#[serde(untagged)]
enum ItemView {
    Accepted {
        status: u16,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        replayed: bool,
        record: RecordView,
    },
    Refused {
        status: u16,
        problem: Problem,
    },
}

pub(super) async fn accept(
    State(api): State<Shared>,
    caller: Caller,
    Extension(trace): Extension<Trace>,
    request: Request,
) -> Result<Response, Problem> {
    // Before the body is read: it waits with the client meanwhile.
    let turn = timeout(LONGEST_QUEUE, Arc::clone(&api.batches).acquire_owned()).await;
    let Ok(Ok(_turn)) = turn else {
        let detail = "Too many batches are being worked on. Nothing was done.";
        return Err(UNAVAILABLE.because(detail).retry_after(1));
    };
    let JsonBody(batch) = JsonBody::<Batch, MAX_BODY_BYTES>::from_request(request, &()).await?;
    if !(1..=MOST_ITEMS).contains(&batch.items.len()) {
        let detail = format!("A batch has 1 to {MOST_ITEMS} items.");
        return Err(INVALID_FIELD.because(detail).at("items"));
    }
    let answers = accept_all(&api, &caller, &trace, &batch.items).await;
    // Nothing of it was done: then that is the answer.
    if let Some(problem) = all_unavailable(&answers) {
        return Err(problem);
    }
    let items = answers.into_iter().map(ItemView::from).collect();
    Ok(Json(BatchView { items }).into_response())
}

type Answer = Result<(RecordView, Replayed), Problem>;

/// Has all of them written as one group: each is brought before any is waited
/// for. The time limit is that of the whole.
async fn accept_all(api: &Api, caller: &Caller, trace: &Trace, items: &[Item]) -> Vec<Answer> {
    let latest = Instant::now() + LONGEST_ANSWER;
    let currencies = currencies(api, caller, items).await;
    let mut brought = Vec::with_capacity(items.len());
    for item in items {
        brought.push(match new_record(caller, &currencies, item) {
            Ok(new) => ask_until(latest, api.acceptance.bring(new, *trace)).await,
            Err(problem) => Err(problem),
        });
    }
    let mut answers = Vec::with_capacity(items.len());
    for accepting in brought {
        answers.push(match accepting {
            Ok(accepting) => ask_until(latest, accepting.committed()).await.and_then(answer),
            Err(problem) => Err(problem),
        });
    }
    answers
}

fn answer(accepted: Accepted) -> Answer {
    let (record, replayed) = movements::accepted(accepted, "idempotencyKey")?;
    Ok((RecordView::from(&record), replayed))
}

type Currencies = HashMap<AccountId, Result<Currency, Problem>>;

/// The currencies of a batch's accounts; those that are not known yet are
/// looked up as one group.
async fn currencies(api: &Api, caller: &Caller, items: &[Item]) -> Currencies {
    let accounts: HashSet<AccountId> =
        items.iter().filter_map(|item| item.account_id.parse().ok()).collect();
    let (known, new): (Vec<_>, Vec<_>) =
        accounts.into_iter().partition(|id| api.known.remembered(*id).is_some());
    let mut currencies = Currencies::with_capacity(known.len() + new.len());
    for id in known {
        currencies.insert(id, accounts::currency_of(api, caller, id).await);
    }
    let looked_up =
        new.into_iter().map(async |id| (id, accounts::currency_of(api, caller, id).await));
    currencies.extend(join_all(looked_up).await);
    currencies
}

fn new_record(caller: &Caller, currencies: &Currencies, item: &Item) -> Result<NewRecord, Problem> {
    let malformed = |error| MALFORMED_ID.because(format!("accountId {error}.")).at("accountId");
    let account = item.account_id.parse().map_err(malformed)?;
    let key = IdempotencyKey::parse(&item.idempotency_key).ok_or_else(|| {
        let detail = "idempotencyKey must be 1 to 255 visible ASCII characters.";
        KEY_MALFORMED.because(detail).at("idempotencyKey")
    })?;
    let currency =
        currencies.get(&account).cloned().unwrap_or_else(|| Err(account_not_found(account)))?;
    let (id, kind) = (RecordId::new(), item.r#type);
    Wanted { id, kind, account, key, amount: &item.amount }.record(caller, currency)
}

fn all_unavailable(answers: &[Answer]) -> Option<Problem> {
    let unavailable = |answer: &Answer| {
        answer.as_ref().err().filter(|it| it.status() == StatusCode::SERVICE_UNAVAILABLE).cloned()
    };
    answers.iter().map(unavailable).reduce(|first, next| next.and(first))?
}

impl From<Answer> for ItemView {
    fn from(answer: Answer) -> Self {
        match answer {
            Ok((record, replayed)) => Self::Accepted {
                status: StatusCode::ACCEPTED.as_u16(),
                replayed: replayed == Replayed::Yes,
                record,
            },
            Err(problem) => Self::Refused { status: problem.status().as_u16(), problem },
        }
    }
}
