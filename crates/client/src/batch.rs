//! Several movements in one request. Each is accepted or refused alone.

use std::time::Duration;

use contract::{AccountId, Kind};
use http::StatusCode;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::{
    Answer, Cause, Client, Error, IdempotencyKey, Metadata, Problem, Record, Request,
    error::ProblemBody, money,
};

/// A movement of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchItem {
    /// The account.
    pub account_id: AccountId,
    /// The type of the movement.
    pub r#type: Kind,
    /// Above zero, with at most the decimals of the currency.
    #[serde(with = "money")]
    pub amount: Decimal,
    /// Moves the money once.
    pub idempotency_key: IdempotencyKey,
    /// ISO 4217. A movement in another currency than the account's is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// The client's own name for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// A text for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The client's own entries.
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
}

impl BatchItem {
    /// A movement of this amount.
    #[must_use]
    pub fn new(
        account_id: AccountId,
        r#type: Kind,
        amount: Decimal,
        idempotency_key: IdempotencyKey,
    ) -> Self {
        let metadata = Metadata::new();
        let (currency, reference, description) = (None, None, None);
        Self {
            account_id,
            r#type,
            amount,
            idempotency_key,
            currency,
            reference,
            description,
            metadata,
        }
    }
}

/// What became of an item.
#[derive(Debug)]
pub struct BatchOutcome {
    /// Whether it was accepted before, under the same key.
    pub replayed: bool,
    /// Its record, or why it was refused. An error that [`Error::may_retry`] is for the caller to
    /// try again, with the same key.
    pub result: Result<Record, Error>,
}

#[derive(Serialize)]
struct Batch<'a> {
    items: &'a [BatchItem],
}

#[derive(Deserialize)]
struct BatchResult {
    items: Vec<ItemResult>,
}

#[derive(Deserialize)]
struct ItemResult {
    index: usize,
    status: u16,
    #[serde(default)]
    replayed: bool,
    record: Option<Record>,
    problem: Option<ProblemBody>,
}

impl ItemResult {
    fn outcome(self, unknown_before: bool) -> Result<BatchOutcome, Error> {
        let result = match (self.record, self.problem) {
            (Some(record), _) => Ok(record),
            (None, Some(problem)) => {
                let status = StatusCode::from_u16(self.status);
                let status = status.map_err(|_| unexpected("an item has an invalid status"))?;
                let problem = Problem::new(status, problem);
                let error = Error::new(Cause::Problem(Box::new(problem)));
                let unknown = unknown_before || error.leaves_outcome_open();
                Err(error.mark_unknown(unknown))
            }
            (None, None) => return Err(unexpected("an item has no record and no problem")),
        };
        Ok(BatchOutcome { replayed: self.replayed, result })
    }
}

fn unexpected(reason: &str) -> Error {
    Error::new(Cause::UnexpectedAnswer(reason.to_owned())).mark_unknown(true)
}

impl Client {
    /// Moves money several times. The outcomes are in the order of the items. `wait` is for the
    /// settlement of all, as in [`crate::Movement`].
    ///
    /// # Errors
    /// Of the last try. A refused item is no error of the batch.
    pub async fn batch(
        &self,
        items: &[BatchItem],
        wait: Option<Duration>,
    ) -> Result<Vec<BatchOutcome>, Error> {
        let request = Request::post("/v1/batches", &Batch { items })?.wait(wait);
        let (mut results, unknown) = self.try_again(&request, Answer::json::<BatchResult>).await?;
        results.items.sort_by_key(|item| item.index);
        if !results.items.iter().map(|item| item.index).eq(0..items.len()) {
            return Err(unexpected("it has other items than the batch"));
        }
        results.items.into_iter().map(|item| item.outcome(unknown)).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn outcome(status: u16, slug: &str, unknown_before: bool) -> Error {
        let item = json!({
            "index": 0,
            "status": status,
            "problem": { "type": format!("/problems/{slug}"), "status": status },
        });
        let item: ItemResult = serde_json::from_value(item).unwrap();
        item.outcome(unknown_before).unwrap().result.unwrap_err()
    }

    #[test]
    fn a_refused_item_says_whether_it_may_be_sent_again_and_may_be_stored() {
        for (error, expected) in [
            (outcome(422, "invalid-field", false), (false, false)),
            (outcome(503, "unavailable", false), (true, false)),
            (outcome(503, "unavailable", true), (true, true)),
            (outcome(503, "outcome-unknown", false), (true, true)),
        ] {
            assert_eq!((error.may_retry(), error.outcome_is_unknown()), expected, "{error}");
        }
    }
}
