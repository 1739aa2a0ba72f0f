//! The event log.

use std::collections::BTreeMap;

use contract::AccountId;
use http::{
    HeaderValue,
    header::{ACCEPT, HeaderName},
};
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, serde::rfc3339};

use crate::{Client, Error, Metadata, Record, Request, query};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Something that happened. Every consumer gets each event at least once: handle it so that twice
/// does no harm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// The cursor of the events after it, and the same in each delivery.
    pub id: String,
    /// `account.created`, `record.succeeded`, `record.failed`. Later releases may add types: ignore
    /// those that you do not know.
    pub r#type: String,
    /// When it was written.
    #[serde(with = "rfc3339")]
    pub timestamp: OffsetDateTime,
    /// Its account.
    pub account_id: AccountId,
    /// Its number among the events of the account: 1, 2, 3 … without a gap.
    pub sequence: i64,
    /// The number of the movement on its account.
    pub account_seq: Option<i64>,
    /// The account or the record, as JSON.
    pub data: BTreeMap<String, serde_json::Value>,
}

/// An account as its event has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenedAccount {
    /// Its id.
    pub account_id: AccountId,
    /// The user that it belongs to.
    pub owner_id: String,
    /// ISO 4217.
    pub currency: String,
    /// The client's own name for it.
    pub reference: Option<String>,
    /// The client's own entries.
    pub metadata: Metadata,
    /// When it was opened.
    #[serde(with = "rfc3339")]
    pub created_at: OffsetDateTime,
}

impl Event {
    /// The record of `record.succeeded` and `record.failed`; `None` of other types.
    #[must_use]
    pub fn record(&self) -> Option<Record> {
        ["record.succeeded", "record.failed"].contains(&&*self.r#type).then(|| self.read())?
    }

    /// The account of `account.created`; `None` of other types.
    #[must_use]
    pub fn opened_account(&self) -> Option<OpenedAccount> {
        (self.r#type == "account.created").then(|| self.read())?
    }

    fn read<T: serde::de::DeserializeOwned>(&self) -> Option<T> {
        let data = self.data.iter().map(|(name, value)| (name.clone(), value.clone()));
        serde_json::from_value(serde_json::Value::Object(data.collect())).ok()
    }
}

/// Which events to read. By default all of the accounts that the caller may see.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventFilter {
    /// Of this type.
    pub r#type: Option<String>,
    /// Of this account.
    pub account_id: Option<AccountId>,
    /// Maximum number of items of a page.
    pub limit: Option<u32>,
}

impl EventFilter {
    pub(crate) fn page(&self, after: Option<&str>) -> Request {
        let parameters = [
            ("type", self.r#type.clone()),
            ("accountId", self.account_id.map(|id| id.to_string())),
            ("limit", self.limit.map(|limit| limit.to_string())),
            ("after", after.map(str::to_owned)),
        ];
        Request::get(query::path("/v1/events", &parameters))
    }

    /// A stream has no limit.
    pub(crate) fn stream(&self, last: Option<&str>) -> Result<Request, Error> {
        let mut request = Self { limit: None, ..self.clone() }.page(None);
        request.headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        if let Some(last) = last {
            let last = HeaderValue::from_str(last);
            let last = last.map_err(|_| Error::invalid_request("it is no id of an event"))?;
            request.headers.insert(LAST_EVENT_ID, last);
        }
        Ok(request)
    }
}

/// A page of the event log, oldest first.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventPage {
    /// The events.
    pub items: Vec<Event>,
    /// Read on after this cursor, now or later. Store it after the events are handled.
    pub next_cursor: String,
    /// Whether there are more events already.
    pub has_more: bool,
}

impl Client {
    /// A page of the events after this one: the id of an event, or the cursor of a page. `None`
    /// begins with the oldest.
    ///
    /// # Errors
    /// Of the last try.
    pub async fn events(
        &self,
        filter: &EventFilter,
        after: Option<&str>,
    ) -> Result<EventPage, Error> {
        self.call(&filter.page(after)).await
    }
}
