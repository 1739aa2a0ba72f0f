//! `passbook dlq`: what people see of messages that could not be processed.

use std::time::Duration;

use serde_json::Value;
use tests::{Stack, broker, client::new_key, eventually, stack};

#[tokio::test]
async fn dead_letters_are_listed_and_shown_with_their_reason() {
    let running = Stack::start("dead-letters").await;
    let dir = running.dir.to_str().unwrap();
    let none = stack::run(&["dlq", "ls", "--dir", dir]).await;
    assert_eq!(none.status.code(), Some(0), "{none:?}");
    let jetstream = broker::connect(&running).await;
    for poison in ["first poison", "second poison"] {
        broker::publish(&jetstream, "transaction.withdrawal", &new_key(), poison).await;
        eventually("it is kept", Duration::from_secs(10), || async {
            let letters = broker::dead_letters(&jetstream).await;
            letters.iter().any(|(body, _)| body == poison.as_bytes()).then_some(())
        })
        .await;
    }
    let listed = stack::run(&["dlq", "ls", "-o", "json", "--dir", dir]).await;
    assert_eq!(listed.status.code(), Some(1), "some are a finding: {listed:?}");
    let letters: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let bodies: Vec<_> = letters.as_array().unwrap().iter().map(|it| &it["body"]).collect();
    assert_eq!(bodies, ["second poison", "first poison"]);
    assert_eq!(letters[0]["consumer"], "withdrawal-consumer");
    assert_eq!(letters[0]["subject"], "transaction.withdrawal");
    let one = stack::run(&["dlq", "ls", "-o", "json", "--limit", "1", "--dir", dir]).await;
    assert_eq!(serde_json::from_slice::<Value>(&one.stdout).unwrap().as_array().unwrap().len(), 1);

    let id = letters[1]["id"].to_string();
    let shown = stack::run(&["dlq", "show", &id, "--dir", dir]).await;
    assert_eq!(shown.status.code(), Some(0), "{shown:?}");
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(text.contains("first poison") && text.contains("not a command"), "{text}");
    let unknown = stack::run(&["dlq", "show", "999", "--dir", dir]).await;
    assert_eq!(unknown.status.code(), Some(2), "{unknown:?}");
}
