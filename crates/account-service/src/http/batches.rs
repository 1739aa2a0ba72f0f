//! `POST /v1/batches`: many movements in one request, each for itself.
//!
//! An item is accepted or refused just as it would be alone, under its own key;
//! nothing holds the items together. So a batch that got no answer is sent
//! again as it was: what is stored answers, the rest is stored now.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Json,
    extract::{FromRequest, Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use contract::{Kind, RecordId};
use futures::future::join_all;
use runtime::{
    http::JsonBody,
    problem::{INVALID_FIELD, Problem, UNAVAILABLE},
    trace::Trace,
};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::{
    Api, Shared,
    auth::Caller,
    movements::{self, Wanted},
    problems::{KEY_MALFORMED, MALFORMED_ID},
    records::{RecordView, Replayed},
};
use crate::record::IdempotencyKey;

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
    let items = batch.items.iter().map(|item| accept_one(&api, &caller, &trace, item));
    let answers = join_all(items).await;
    // Nothing of it was done: then that is the answer.
    if let Some(problem) = all_unavailable(&answers) {
        return Err(problem);
    }
    let items = answers.into_iter().map(ItemView::from).collect();
    Ok(Json(BatchView { items }).into_response())
}

type Answer = Result<(RecordView, Replayed), Problem>;

async fn accept_one(api: &Api, caller: &Caller, trace: &Trace, item: &Item) -> Answer {
    let account = item
        .account_id
        .parse()
        .map_err(|error| MALFORMED_ID.because(format!("accountId {error}.")).at("accountId"))?;
    let key = IdempotencyKey::parse(&item.idempotency_key).ok_or_else(|| {
        let detail = "idempotencyKey must be 1 to 255 visible ASCII characters.";
        KEY_MALFORMED.because(detail).at("idempotencyKey")
    })?;
    let (id, kind) = (RecordId::new(), item.r#type);
    let wanted =
        Wanted { id, kind, account, key, amount: &item.amount, key_field: "idempotencyKey" };
    let (record, replayed) = movements::accept(api, caller, trace.clone(), wanted).await?;
    Ok((RecordView::from(&record), replayed))
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
