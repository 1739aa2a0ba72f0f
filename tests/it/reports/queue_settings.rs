//! The queue of reports under other names and with another age.

use std::time::Duration;

use serde_json::{Value, json};
use tests::{Client, Stack, broker, client::new_key, eventually, process, wait::eventually_now};

use super::{own_replica::OwnReplica, statement, used_account};

const SETTINGS: [(&str, &str); 5] = [
    ("PASSBOOK_REPORT_STREAM", "documents"),
    ("PASSBOOK_REPORT_SUBJECT", "documents.wanted"),
    ("PASSBOOK_REPORT_CONSUMER", "document-workers"),
    ("PASSBOOK_REPORT_MAX_AGE", "36h"),
    ("PASSBOOK_REPORT_FETCH_WAIT", "2s"),
];

async fn run(arguments: &[&str], settings: &[(&str, &str)]) -> (i32, String) {
    let output = process::run_with(arguments, settings).await;
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

#[tokio::test]
async fn reports_and_tools_work_with_a_queue_of_other_names_and_age() {
    let settings = SETTINGS.map(|(name, value)| format!("{name}={value}"));
    let stack = Stack::start_reports("report-queue-settings", 2, &settings).await;
    let client = Client::teller(&stack);
    let request = statement(&used_account(&client).await, &["csv"]);
    let report = client.report(&request, 30).await;
    assert_eq!((report.status, report.text("state")), (200, "SUCCEEDED"), "{report:?}");

    let jetstream = broker::connect(&stack).await;
    let stream = broker::stream(&jetstream, "documents").await;
    assert_eq!(stream.config.subjects, ["documents.wanted"]);
    assert_eq!(stream.config.max_age, Duration::from_secs(36 * 3600));
    let consumer = broker::consumer(&jetstream, "documents", "document-workers").await;
    assert!(consumer.cached_info().delivered.consumer_sequence >= 1);
    jetstream.get_stream("job").await.unwrap_err();

    let dir = ["--dir", stack.dir.to_str().unwrap(), "-o", "json"];
    let storage = format!("file://{}", stack.dir.join("artifacts").display());
    let storage = ("PASSBOOK_REPORT_STORAGE_URL", storage.as_str());
    let doctor = [&["doctor"][..], &dir].concat();
    let configured = [&SETTINGS[..], &[storage]].concat();
    let (code, found) = run(&doctor, &configured).await;
    assert_eq!(code, 0, "{found}");
    let (code, found) = run(&[&["verify"][..], &dir].concat(), &SETTINGS).await;
    assert_eq!(code, 0, "{found}");
    let nats = stack.file().nats;
    for command in ["streams", "wait"] {
        let (code, told) = run(&[command, "--nats-url", &nats], &SETTINGS).await;
        assert_eq!(code, 0, "{command}: {told}");
    }
    let stream = broker::stream(&jetstream, "documents").await;
    assert_eq!(stream.config.max_age, Duration::from_secs(36 * 3600));
    // Each difference is found.
    for (name, value, finding) in [
        ("PASSBOOK_REPORT_MAX_AGE", "7d", "max_age"),
        ("PASSBOOK_REPORT_SUBJECT", "other", "subject"),
        ("PASSBOOK_REPORT_CONSUMER", "other", "the consumer is missing"),
    ] {
        let (code, found) = run(&doctor, &[&configured[..], &[(name, value)]].concat()).await;
        assert!(code == 1 && found.contains(finding), "{name}: {found}");
    }

    // The service may dead-letter under the other names.
    let unknown = new_key();
    let body = json!({ "reportId": unknown }).to_string().into_bytes();
    broker::publish(&jetstream, "documents.wanted", &new_key(), body).await;
    broker::dead_letter(&jetstream, Duration::from_secs(20), |payload| {
        let letter: Value = serde_json::from_slice(payload).unwrap_or_default();
        letter["reportId"] == unknown.as_str()
    })
    .await;
    broker::stream_holds(&jetstream, "documents", 0, Duration::from_secs(20)).await;
    let (code, listed) = run(&[&["dlq", "ls"][..], &dir].concat(), &SETTINGS).await;
    assert!(code <= 1 && listed.contains("document-workers"), "{listed}");
}

#[tokio::test]
async fn a_setting_of_the_queue_that_nats_or_passbook_can_not_use_is_rejected() {
    let url = ["--nats-url", "nats://127.0.0.1:1"];
    for (name, value) in [
        ("PASSBOOK_REPORT_STREAM", "two words"),
        ("PASSBOOK_REPORT_STREAM", "TRANSACTION"),
        ("PASSBOOK_REPORT_SUBJECT", "documents.*"),
        ("PASSBOOK_REPORT_SUBJECT", "transaction.deposit"),
        ("PASSBOOK_REPORT_CONSUMER", "deposit-consumer"),
        ("PASSBOOK_REPORT_MAX_AGE", "59m"),
        ("PASSBOOK_REPORT_MAX_AGE", "366d"),
    ] {
        let (code, told) = run(&[&["streams"], &url[..]].concat(), &[(name, value)]).await;
        assert!(code == 2 && told.contains(value), "{name}: {told}");
    }
}

#[tokio::test]
async fn used_up_reconnects_end_the_service_and_without_a_limit_it_goes_on() {
    let stack = Stack::shared().await;
    let settings = [
        // Nothing listens there.
        ("PASSBOOK_NATS_URL", "nats://127.0.0.1:1"),
        ("PASSBOOK_NATS_RECONNECT_WAIT", "50ms"),
    ];
    let ten = [&settings[..], &[("PASSBOOK_NATS_MAX_RECONNECTS", "10")]].concat();
    let unlimited = OwnReplica::start(stack, "unlimited-reconnects.log", &settings);
    let mut limited = OwnReplica::start(stack, "ten-reconnects.log", &ten);
    let limit = Duration::from_secs(30);
    let status =
        eventually_now("the service ends", limit, || limited.child.try_wait().unwrap()).await;
    assert_eq!(status.code(), Some(1));
    let log = std::fs::read_to_string(stack.dir.join("ten-reconnects.log")).unwrap();
    assert!(log.contains("PASSBOOK_NATS_MAX_RECONNECTS"), "{log}");
    // Requests for reports need no broker.
    eventually("the other one is ready", limit, || async {
        unlimited.is_ready().await.then_some(())
    })
    .await;
}
