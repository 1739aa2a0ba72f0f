//! JSON bodies of the account-service.

use std::collections::BTreeMap;

use account_service::{
    http::{parse_api_key, parse_batch, parse_movement},
    labels::{Description, Labels, Metadata, Reference},
};
use contract::{Amount, Currency, Kind, Scope, Scopes, UserId};
use runtime::http::{bearer::Caller, idempotency_key::IdempotencyKey};
use serde_json::Value;
use time::{Duration, OffsetDateTime};

use super::{assert_line, assert_refusal, choice, text};

fn caller(scopes: Scopes) -> Caller {
    Caller { user_id: UserId::try_from("ann".to_owned()).unwrap(), scopes, api_key: None }
}

fn assert_labels(labels: &Labels) {
    if let Some(reference) = &labels.reference {
        assert_line(reference.as_str(), Reference::MAX);
    }
    let is_text =
        |text: &str| text.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\r' | '\t'));
    if let Some(description) = &labels.description {
        let description = description.as_str();
        assert!((1..=Description::MAX).contains(&description.chars().count()));
        assert!(is_text(description), "{description:?}");
    }
    let entries = labels.metadata.entries();
    assert!(entries.len() <= Metadata::MAX_ENTRIES);
    assert!(
        entries.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>()
            <= Metadata::MAX_BYTES
    );
    for (key, value) in entries {
        assert_line(key, Metadata::MAX_KEY);
        assert!(value.chars().count() <= Metadata::MAX_VALUE && is_text(value), "{value:?}");
    }
}

/// An accepted movement has the amount of its body, in the asserted currency, and bounded labels.
pub(super) fn movements(input: &[u8]) {
    let Some((choice, body)) = choice(input) else { return };
    let currency = Currency::parse(["KRW", "USD", "KWD", "CLF"][choice % 4]).unwrap();
    let kind = Kind::ALL[choice / 4 % 2];
    let key = IdempotencyKey::parse("monday-1").unwrap();
    let record = match parse_movement(body, kind, key, &caller(Scopes::all()), currency) {
        Ok(record) => record,
        Err(problem) => return assert_refusal(&problem, input),
    };
    let json: BTreeMap<String, Value> = serde_json::from_slice(body).unwrap();
    let known = ["amount", "currency", "reference", "description", "metadata"];
    assert!(json.keys().all(|key| known.contains(&key.as_str())), "{json:?}");
    assert_eq!(Amount::parse(json["amount"].as_str().unwrap(), currency), Ok(record.amount));
    let asserted = json.get("currency").filter(|asserted| !asserted.is_null());
    assert!(asserted.is_none_or(|asserted| asserted == currency.code()), "{json:?}");
    assert_eq!((record.kind, record.currency), (kind, currency));
    assert_labels(&record.labels);
    let given = json.get("metadata").and_then(Value::as_object).map_or(0, |given| given.len());
    assert_eq!(record.labels.metadata.entries().len(), given);
    let refused = parse_movement(body, kind, record.key, &caller(Scopes::default()), currency);
    assert_eq!(refused.unwrap_err().status(), 403);
}

/// Lines of metadata, as keys and values. The bounds hold together.
pub(super) fn labels(input: &[u8]) {
    let Some(text) = text(input) else { return };
    let metadata: BTreeMap<_, _> = text
        .split('\n')
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let metadata = Metadata::try_from(metadata);
    let reference = Reference::try_from(text.to_owned());
    assert!(
        reference.as_ref().is_ok_and(|reference| reference.as_str() == text) || reference.is_err()
    );
    let description = Description::try_from(text.to_owned());
    assert_labels(&Labels {
        reference: reference.ok(),
        description: description.ok(),
        metadata: metadata.unwrap_or_default(),
    });
}

/// Each item of a batch is read alone, and 1,000 at most.
pub(super) fn batches(input: &[u8]) {
    let batch = match parse_batch(input) {
        Ok(batch) => batch,
        Err(problem) => return assert_refusal(&problem, input),
    };
    assert_eq!(batch.read.len(), batch.count.min(1000));
    // An item may be nested too deeply to be read.
    let Ok(json) = serde_json::from_slice::<Value>(input) else { return };
    let items = json["items"].as_array().unwrap();
    assert_eq!(items.len(), batch.count);
    for (read, item) in batch.read.iter().zip(items) {
        match read {
            Ok(()) => assert!(item["amount"].is_string() && item["idempotencyKey"].is_string()),
            Err(problem) => assert_refusal(problem, input),
        }
    }
}

/// A key has at most the scopes of its creator, never `admin`, and ends within 366 days.
pub(super) fn api_keys(input: &[u8]) {
    let (teller, admin) = (Scopes::teller(), caller(Scopes::all()));
    let now = OffsetDateTime::now_utc();
    let request = match parse_api_key(input, &admin) {
        Ok(request) => request,
        Err(problem) => return assert_refusal(&problem, input),
    };
    assert_line(&request.name, 100);
    assert!(request.scopes != Scopes::default());
    for scope in Scope::ALL.into_iter().filter(|scope| request.scopes.contains(*scope)) {
        assert!(Scope::OF_API_KEYS.contains(&scope), "{scope}");
    }
    let expires = request.expires_at.unwrap();
    assert!(expires > now && expires <= OffsetDateTime::now_utc() + Duration::days(366));
    if let Ok(request) = parse_api_key(input, &caller(teller)) {
        let mut scopes = Scope::ALL.into_iter().filter(|scope| request.scopes.contains(*scope));
        assert!(scopes.all(|scope| teller.contains(scope)));
    }
    let customer = caller([Scope::AccountsRead].into_iter().collect());
    if let Ok(request) = parse_api_key(input, &customer) {
        assert_eq!(request.scopes, customer.scopes);
        assert!(request.user_id.is_none_or(|user| user == customer.user_id));
    }
}
