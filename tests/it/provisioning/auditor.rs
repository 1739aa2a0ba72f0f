//! The permissions of the auditor.

use std::time::Duration;

use async_nats::jetstream;
use contract::permissions;
use devstack::Secrets;
use serde_json::Value;
use tests::{Client, Stack, broker, process::run_with};

use super::{as_role, succeeds};

/// Connects as the auditor.
async fn auditor(stack: &Stack, secrets: &Secrets) -> jetstream::Context {
    let nats = stack.file().nats;
    let (_, address) = nats.split_once('@').unwrap();
    let options = async_nats::ConnectOptions::with_user_and_password(
        permissions::AUDITOR.to_owned(),
        secrets.nats.of(permissions::AUDITOR).unwrap().to_owned(),
    );
    let prefix = permissions::inbox(permissions::AUDITOR);
    let client = options.custom_inbox_prefix(prefix).connect(address).await.unwrap();
    // A request without permission gets no reply.
    jetstream::ContextBuilder::new().timeout(Duration::from_secs(1)).build(client)
}

#[tokio::test]
async fn an_auditor_sees_everything_and_changes_nothing() {
    let stack = Stack::start("auditor").await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    client.deposit(&account, "10000").await;
    let secrets = Secrets::read(&stack.dir).unwrap();
    let file = stack.file();
    let password = secrets.postgres.of("auditor").unwrap();
    let nats_password = secrets.nats.of(permissions::AUDITOR).unwrap();
    let (_, address) = file.nats.split_once('@').unwrap();
    let urls = [
        as_role(&file.databases.account, "auditor", password),
        as_role(&file.databases.transaction, "auditor", password),
        format!("nats://{}:{nats_password}@{address}", permissions::AUDITOR),
    ];
    let settings = [
        ("PASSBOOK_ACCOUNT_DATABASE_URL", urls[0].as_str()),
        ("PASSBOOK_TRANSACTION_DATABASE_URL", urls[1].as_str()),
        ("PASSBOOK_NATS_URL", urls[2].as_str()),
    ];
    let verified = run_with(&["verify", "-o", "json"], &settings).await;
    let verified: Value = serde_json::from_slice(&verified.stdout).unwrap();
    assert_eq!(verified["streams"]["checked"], true, "{verified:#}");
    succeeds(&["doctor"], &settings).await;
    succeeds(&["dlq", "ls"], &settings).await;

    let operator = broker::connect(&stack).await;
    let before = broker::stream(&operator, "TRANSACTION_RESULT").await.state.messages;
    let auditor = auditor(&stack, &secrets).await;
    let results = auditor.get_stream("TRANSACTION_RESULT").await.unwrap();
    auditor.client().publish("transaction.result.deposit", "{}".into()).await.unwrap();
    assert!(results.purge().await.is_err());
    assert!(results.delete_message(1).await.is_err());
    assert!(auditor.delete_stream("DEAD_LETTER").await.is_err());
    assert!(results.delete_consumer("account-result-consumer").await.is_err());
    let changed = jetstream::consumer::pull::Config {
        durable_name: Some("account-result-consumer".to_owned()),
        ..Default::default()
    };
    assert!(results.create_consumer(changed).await.is_err());
    // A push consumer could deliver to a subject the auditor may not publish to.
    let push = jetstream::consumer::push::Config {
        name: Some("pushing".to_owned()),
        deliver_subject: "transaction.deposit".to_owned(),
        ..Default::default()
    };
    assert!(results.create_consumer(push).await.is_err());
    // So could a reply subject.
    let client = auditor.client();
    for (request, body) in [
        ("STREAM.INFO.TRANSACTION", ""),
        ("STREAM.MSG.GET.TRANSACTION_RESULT", r#"{"seq":1}"#),
        ("DIRECT.GET.TRANSACTION_RESULT", r#"{"seq":1}"#),
        ("DIRECT.GET.TRANSACTION_RESULT", r#"{"seq":1,"batch":2,"next_by_subj":">"}"#),
    ] {
        let request = format!("$JS.API.{request}");
        let reply_to = "transaction.result.deposit";
        client.publish_with_reply(request, reply_to, body.into()).await.unwrap();
    }
    // The requests above failed for lack of permission, because the connection still works.
    assert!(results.get_raw_message(1).await.is_ok());
    assert_eq!(broker::stream(&operator, "TRANSACTION").await.state.messages, 0);
    assert_eq!(broker::stream(&operator, "TRANSACTION_RESULT").await.state.messages, before);
}
