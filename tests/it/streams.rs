//! Streams and consumers: missing ones are created and drift is repaired, of streams by
//! `passbook streams` alone. Drift that only a deletion can repair is an error with the name of
//! the field.

use std::time::Duration;

use async_nats::jetstream::{
    self,
    consumer::{AckPolicy, pull},
    stream,
};
use contract::{ConsumerSpec, Retention, StreamSpec, WhenFull};
use runtime::nats::streams::{StreamsError, ensure, mend, stream_differences};
use serde_json::{Value, json};
use tests::{Client, Stack, broker, invariants};

const STREAM: StreamSpec = StreamSpec {
    name: "DRIFT",
    subjects: &["drift.>"],
    retention: Retention::WorkQueue,
    max_age: Duration::from_secs(3600),
    max_bytes: 1 << 20,
    when_full: WhenFull::RejectNew,
    duplicate_window: Duration::from_secs(60),
};

const CONSUMER: ConsumerSpec = ConsumerSpec {
    name: "drift-consumer",
    stream: "DRIFT",
    filter: "drift.one",
    ack_wait: Duration::from_secs(30),
    max_deliver: 3,
    max_ack_pending: 100,
    bundle: None,
};

fn assert_drift(outcome: Result<(), StreamsError>, expected: &str) {
    match outcome {
        Err(StreamsError::Drift { field, .. }) => assert_eq!(field, expected),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn drift_is_repaired_in_place_or_reported_with_its_field() {
    let jetstream = broker::connect(Stack::shared().await).await;
    let ensure_both = || ensure(&jetstream, &[&STREAM], &[&CONSUMER], 1);
    ensure_both().await.unwrap();
    ensure_both().await.unwrap();
    mend(&jetstream, &[&STREAM], 1).await.unwrap();

    // An operator changes two fields of the contract and one outside of it.
    let mut config = broker::stream(&jetstream, "DRIFT").await.config;
    config.max_age = Duration::from_secs(120);
    config.subjects = vec!["drift.one".to_owned()];
    config.description = Some("the operator's".to_owned());
    jetstream.update_stream(&config).await.unwrap();
    let consumer = broker::consumer(&jetstream, "DRIFT", "drift-consumer").await;
    let drifted = pull::Config {
        max_deliver: 7,
        ack_wait: Duration::from_secs(5),
        ack_policy: AckPolicy::Explicit,
        durable_name: Some("drift-consumer".to_owned()),
        filter_subject: consumer.cached_info().config.filter_subject.clone(),
        ..Default::default()
    };
    jetstream.create_consumer_on_stream(drifted, "DRIFT").await.unwrap();
    ensure_both().await.unwrap();
    let after = broker::stream(&jetstream, "DRIFT").await.config;
    assert_eq!(after.max_age, Duration::from_secs(120), "a service changes no stream");
    mend(&jetstream, &[&STREAM], 1).await.unwrap();
    let after = broker::stream(&jetstream, "DRIFT").await.config;
    assert_eq!(after.max_age, STREAM.max_age);
    assert_eq!(after.subjects, ["drift.>"]);
    assert_eq!(after.description.as_deref(), Some("the operator's"));
    let consumer = broker::consumer(&jetstream, "DRIFT", "drift-consumer").await;
    let after = &consumer.cached_info().config;
    assert_eq!((after.max_deliver, after.ack_wait), (3, CONSUMER.ack_wait));

    each_setting_of_a_stream_is_compared(&jetstream).await;

    jetstream.delete_stream("DRIFT").await.unwrap();
    let limits = stream::Config {
        name: "DRIFT".to_owned(),
        subjects: vec!["drift.>".to_owned()],
        ..Default::default()
    };
    jetstream.create_stream(limits).await.unwrap();
    assert_drift(ensure_both().await, "retention");
    let unacked = pull::Config {
        durable_name: Some("drift-consumer".to_owned()),
        ack_policy: AckPolicy::None,
        ..Default::default()
    };
    jetstream.create_consumer_on_stream(unacked, "DRIFT").await.unwrap();
    assert_drift(ensure(&jetstream, &[], &[&CONSUMER], 1).await, "ack_policy");
    jetstream.delete_stream("DRIFT").await.unwrap();
}

/// Whatever a stream was created or updated with, `passbook streams` restores it or names it.
async fn each_setting_of_a_stream_is_compared(jetstream: &jetstream::Context) {
    let request = async |verb: &str, config: &Value| {
        let subject = format!("STREAM.{verb}.DRIFT");
        let answer: Value = jetstream.request(subject, config).await.unwrap();
        assert_eq!(answer["error"], Value::Null, "{config:#}");
    };
    let found = serde_json::to_value(broker::stream(jetstream, "DRIFT").await.config).unwrap();
    for (field, value) in [
        ("subjects", json!(["drift.one", "drift.two"])),
        ("discard", json!("old")),
        ("max_age", json!(1_000_000_000_i64)),
        ("duplicate_window", json!(1_000_000_000_i64)),
        ("max_bytes", json!(-1)),
        ("max_msgs", json!(1)),
        ("max_msgs_per_subject", json!(1)),
        ("max_msg_size", json!(100)),
        ("no_ack", json!(true)),
        ("allow_rollup_hdrs", json!(true)),
        ("allow_atomic", json!(true)),
        ("republish", json!({ "src": "drift.>", "dest": "elsewhere.>" })),
        ("sources", json!([{ "name": "elsewhere" }])),
        ("subject_transform", json!({ "src": "drift.>", "dest": "elsewhere.>" })),
        ("consumer_limits", json!({ "max_ack_pending": 1000 })),
    ] {
        let mut changed = found.clone();
        changed[field] = value;
        if field == "duplicate_window" || field == "max_age" {
            changed["duplicate_window"] = json!(1_000_000_000_i64);
        }
        request("UPDATE", &changed).await;
        let drifted = broker::stream(jetstream, "DRIFT").await.config;
        let differences = stream_differences(&STREAM, &drifted);
        assert!(differences.iter().any(|difference| difference.field == field), "{field}");
        mend(jetstream, &[&STREAM], 1).await.unwrap();
        let mended = serde_json::to_value(broker::stream(jetstream, "DRIFT").await.config);
        assert_eq!(mended.unwrap(), found, "{field}");
    }
    for (field, value) in [
        ("deny_delete", json!(true)),
        ("deny_purge", json!(true)),
        ("allow_msg_ttl", json!(true)),
        ("max_consumers", json!(5)),
        ("mirror", json!({ "name": "elsewhere" })),
        ("persist_mode", json!("async")),
        ("sealed", json!(true)),
    ] {
        jetstream.delete_stream("DRIFT").await.unwrap();
        let mut changed = found.clone();
        changed["max_msgs"] = json!(1);
        if field == "mirror" {
            changed.as_object_mut().unwrap().remove("subjects");
        }
        let verb = if field == "sealed" {
            request("CREATE", &changed).await;
            "UPDATE"
        } else {
            "CREATE"
        };
        changed[field] = value;
        request(verb, &changed).await;
        // A sealed stream denies deletions, too.
        let named = if field == "sealed" { "deny_delete" } else { field };
        assert_drift(mend(jetstream, &[&STREAM], 1).await, named);
        // The others are restored nevertheless, where the server allows it.
        let left = broker::stream(jetstream, "DRIFT").await.config.max_messages;
        assert_eq!(left == -1, field != "mirror", "{field}: {left}");
    }
}

#[tokio::test]
async fn streams_and_consumers_deleted_under_the_running_system_are_recreated() {
    let stack = Stack::start("deleted").await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    assert_eq!(client.deposit(&account, "1").await.text("status"), "SUCCESS");
    let jetstream = broker::connect(&stack).await;
    let commands = jetstream.get_stream("TRANSACTION").await.unwrap();
    commands.delete_consumer("deposit-consumer").await.unwrap();
    assert_eq!(
        client.settled(client.deposit(&account, "1").await.text("recordId")).await.text("status"),
        "SUCCESS"
    );
    jetstream.delete_stream("TRANSACTION_RESULT").await.unwrap();
    jetstream.delete_stream("TRANSACTION").await.unwrap();
    let after = client.deposit(&account, "1").await;
    let settled = client.settled(after.text("recordId")).await;
    assert_eq!((settled.text("status"), settled.text("balanceAfter")), ("SUCCESS", "3"));
    invariants::assert_verified(&stack).await;
}
