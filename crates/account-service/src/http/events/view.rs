//! Events in the API.

use std::collections::BTreeMap;

use contract::AccountId;
use runtime::http::{openapi::names, timestamp};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        RefOr, Schema,
        schema::{AdditionalProperties, ObjectBuilder},
    },
};

use super::super::{labels::MetadataSchema, records::RecordView, schemas};
use crate::{
    events::{EventDetail, EventIds, EventKind, LoggedEvent},
    store::Account,
};

/// The type of an event.
pub(super) struct EventType;

impl PartialSchema for EventType {
    fn schema() -> RefOr<Schema> {
        let meaning = |kind| match kind {
            EventKind::AccountCreated => "an account was opened. `data` is the account.",
            EventKind::RecordSucceeded => "a movement was applied. `data` is its record.",
            EventKind::RecordFailed => "a movement was refused. `data` is its record.",
        };
        let types = EventKind::ALL.map(|kind| (kind.as_str(), meaning(kind)));
        names(
            "What happened. Later releases may add types: ignore those that you do not know.",
            types,
        )
    }
}

impl ToSchema for EventType {}

/// Something that happened to an account or a record.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Event, examples(json!({
    "id": "UH6oSSXqzIlSeHUTXxuqTfYqM3yrnmE7",
    "type": "account.created",
    "timestamp": "2026-11-21T21:34:55.848209Z",
    "accountId": "01a20008-a367-77bd-a6bf-eaa3667171b3",
    "sequence": 1,
    "accountSeq": null,
    "data": {
        "accountId": "01a20008-a367-77bd-a6bf-eaa3667171b3",
        "ownerId": "ann",
        "currency": "KRW",
        "reference": "customer 17",
        "metadata": {},
        "createdAt": "2026-11-21T21:34:55.848209Z",
    },
})))]
pub(super) struct EventView {
    /// The same in each delivery of the event. As `after` or `Last-Event-ID` it is the cursor of
    /// the events after it.
    #[schema(min_length = 32, max_length = 32)]
    id: String,
    /// What happened: an `EventType`. Later releases may add types.
    #[schema(value_type = String)]
    r#type: &'static str,
    /// When it was written: after the settlement of its record, by the clock of the database.
    #[serde(with = "timestamp")]
    timestamp: OffsetDateTime,
    #[schema(value_type = Uuid)]
    account_id: AccountId,
    /// The number of this event among those of its account: 1, 2, 3 … without a gap. The events of
    /// an account come in this order.
    #[schema(minimum = 1)]
    sequence: i64,
    /// The number of the movement on its account, as in the record. The order of the events may
    /// be another one. `null` without an applied movement.
    #[schema(minimum = 1, required)]
    account_seq: Option<i64>,
    data: EventData,
}

/// What the event tells: the record or the account. In the document it is any object: a generated
/// client must be able to read the events of types that it does not know.
#[derive(Serialize)]
#[serde(untagged)]
enum EventData {
    Record(Box<RecordView>),
    Account(OpenedAccountView),
}

impl PartialSchema for EventData {
    fn schema() -> RefOr<Schema> {
        let description = "What the event tells: an `OpenedAccount` of `account.created`, a \
                           `Record` of `record.succeeded` and `record.failed`.";
        let object = ObjectBuilder::new()
            .description(Some(description))
            .additional_properties(Some(AdditionalProperties::FreeForm(true)));
        Schema::Object(object.build()).into()
    }
}

impl ToSchema for EventData {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((EventType::name().into_owned(), EventType::schema()));
        schemas.push((OpenedAccountView::name().into_owned(), OpenedAccountView::schema()));
        OpenedAccountView::schemas(schemas);
    }
}

/// An account that was opened: what never changes of it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = OpenedAccount)]
struct OpenedAccountView {
    #[schema(value_type = Uuid)]
    account_id: AccountId,
    /// The user that the account belongs to.
    owner_id: String,
    #[schema(value_type = schemas::Currency)]
    currency: &'static str,
    /// The client's own name for the account.
    #[schema(required)]
    reference: Option<String>,
    #[schema(value_type = MetadataSchema)]
    metadata: BTreeMap<String, String>,
    /// When the account was opened.
    #[serde(with = "timestamp")]
    created_at: OffsetDateTime,
}

impl From<&Account> for OpenedAccountView {
    fn from(account: &Account) -> Self {
        Self {
            account_id: account.id,
            owner_id: account.owner.to_string(),
            currency: account.currency.code(),
            reference: account.labels.reference.as_ref().map(|text| text.as_str().to_owned()),
            metadata: account.labels.metadata.entries().clone(),
            created_at: account.created_at,
        }
    }
}

impl EventView {
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn new(ids: &EventIds, event: &LoggedEvent, detail: &EventDetail) -> Self {
        let (account_seq, data) = match detail {
            EventDetail::Record(record) => {
                (record.account_seq, EventData::Record(Box::new(record.into())))
            }
            EventDetail::Account(account) => (None, EventData::Account(account.into())),
        };
        Self {
            id: ids.id(event),
            r#type: event.kind.as_str(),
            timestamp: event.created_at,
            account_id: event.account,
            sequence: event.sequence,
            account_seq,
            data,
        }
    }
}

/// One page of events.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = EventPage)]
pub(super) struct PageView {
    /// In the order of the log. A page may have fewer items than its limit, even none.
    pub(super) items: Vec<EventView>,
    /// The `after` of the next page, also at the end of the log: never null.
    pub(super) next_cursor: String,
    /// Whether there are more events now. Otherwise ask again after a pause.
    pub(super) has_more: bool,
}
