//! The pinned wire format: this version reads the golden messages, and writes them
//! again byte for byte.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use contract::{Command, Job, TransactionResult, bundle::Bundle};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

const COMMAND: &str = include_str!("../golden/command.json");
const COMMANDS: &str = include_str!("../golden/commands.json");
const RESULTS: &str = include_str!("../golden/results.json");
const SUCCESS: &str = include_str!("../golden/result_success.json");
const FAILED: &str = include_str!("../golden/result_failed.json");
const JOB: &str = include_str!("../golden/job.json");

fn stays_the_same<T: Serialize + DeserializeOwned>(golden: &str) {
    let message: T = serde_json::from_str(golden).unwrap();
    assert_eq!(serde_json::to_string(&message).unwrap(), golden.trim_end());
}

/// A message with several commands or results is the same after its parts were read and written.
fn parts_stay_the_same<T: Serialize + DeserializeOwned>(content: Bundle, golden: &str) {
    let parts = content.parse(golden.trim_end().as_bytes()).unwrap().unwrap();
    assert_eq!(parts.len(), 2);
    let mut writer = content.writer();
    for part in parts {
        let message: T = serde_json::from_str(part.body).unwrap();
        let body = serde_json::to_vec(&message).unwrap();
        writer.add(&part.message_id.unwrap(), &part.traceparent.unwrap(), &body);
    }
    assert_eq!(String::from_utf8(writer.finish()).unwrap(), golden.trim_end());
}

/// The golden message with one field set, or removed (`None`).
fn with(golden: &str, field: &str, value: Option<Value>) -> String {
    let mut message: Value = serde_json::from_str(golden).unwrap();
    let fields = message.as_object_mut().unwrap();
    match value {
        Some(value) => fields.insert(field.to_owned(), value),
        None => fields.remove(field),
    };
    message.to_string()
}

#[test]
fn the_wire_format_is_that_of_the_golden_files() {
    stays_the_same::<Command>(COMMAND);
    stays_the_same::<TransactionResult>(SUCCESS);
    stays_the_same::<TransactionResult>(FAILED);
    stays_the_same::<Job>(JOB);
    parts_stay_the_same::<Command>(Bundle::Commands, COMMANDS);
    parts_stay_the_same::<TransactionResult>(Bundle::Results, RESULTS);
}

#[test]
fn unknown_fields_are_ignored() {
    let newer = with(COMMAND, "channel", Some(json!("branch")));
    let command: Command = serde_json::from_str(&newer).unwrap();
    assert_eq!(command, serde_json::from_str(COMMAND).unwrap());
}

#[test]
fn a_missing_field_is_a_contract_error() {
    for golden in [COMMAND, SUCCESS] {
        let message: Value = serde_json::from_str(golden).unwrap();
        for field in message.as_object().unwrap().keys() {
            if message.get(field).unwrap().is_null() {
                continue;
            }
            let without = with(golden, field, None);
            assert!(serde_json::from_str::<Command>(&without).is_err(), "{without}");
            assert!(serde_json::from_str::<TransactionResult>(&without).is_err(), "{without}");
        }
    }
}

#[test]
fn an_impossible_field_is_a_contract_error() {
    for (field, value) in [
        ("recordId", json!("0199d4a27c1e7b7a9a553f1d8f6f2c11")),
        ("accountId", json!(7)),
        ("userId", json!("")),
        ("type", json!("TRANSFER")),
        ("amount", json!(10000)),
        ("amount", json!("-1")),
        ("amount", json!("0.5")),
        ("currency", json!("krw")),
        ("requestedAt", json!("yesterday")),
    ] {
        let message = with(COMMAND, field, Some(value));
        assert!(serde_json::from_str::<Command>(&message).is_err(), "{message}");
    }
    for (golden, field, value) in [
        (SUCCESS, "status", json!("FAILED")),
        (SUCCESS, "status", json!("PENDING")),
        (SUCCESS, "reason", json!("INSUFFICIENT_FUNDS")),
        (SUCCESS, "balanceAfter", json!("-1.00")),
        (SUCCESS, "accountSeq", json!(0)),
        (SUCCESS, "transactionId", json!(0)),
        (FAILED, "reason", json!("BAD_MOOD")),
        (FAILED, "reason", json!(null)),
        (FAILED, "accountSeq", json!(1)),
    ] {
        let message = with(golden, field, Some(value));
        assert!(serde_json::from_str::<TransactionResult>(&message).is_err(), "{message}");
    }
}
