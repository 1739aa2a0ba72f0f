//! Plain NATS, for what no client of ours would send, and to look at the
//! streams.

use std::time::Duration;

use anyhow::{Context, Result};
use async_nats::{
    HeaderMap, Subscriber,
    jetstream::{self, consumer::pull, stream::Info},
};
use futures::StreamExt;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{Answer, Stack};

/// A connection that may do everything.
pub async fn connect(stack: &Stack) -> jetstream::Context {
    try_connect(stack).await.unwrap()
}

/// As [`connect`], while the broker may be away.
///
/// # Errors
/// If it is.
pub async fn try_connect(stack: &Stack) -> Result<jetstream::Context> {
    let nats = stack.file().nats;
    let urls: Vec<async_nats::ServerAddr> =
        nats.split(',').map(|url| url.parse().unwrap()).collect();
    // The client does not take the user out of the URL by itself.
    let (user, password) = (urls[0].username().unwrap(), urls[0].password().unwrap());
    let options = async_nats::ConnectOptions::with_user_and_password(user.into(), password.into());
    Ok(jetstream::new(options.connect(&urls[..]).await?))
}

/// Publishes and waits for the PubAck.
pub async fn publish(
    jetstream: &jetstream::Context,
    subject: &str,
    message_id: &str,
    payload: impl Into<Vec<u8>>,
) {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", message_id);
    let payload = payload.into().into();
    jetstream
        .publish_with_headers(subject.to_owned(), headers, payload)
        .await
        .unwrap()
        .await
        .unwrap();
}

/// The command of a record, as the account-service wrote it.
#[must_use]
pub fn command_of(record: &Answer) -> Value {
    json!({
        "recordId": record.body["recordId"],
        "accountId": record.body["accountId"],
        "userId": "teller",
        "type": record.body["type"],
        "amount": record.body["amount"],
        "currency": record.body["currency"],
        "requestedAt": record.body["createdAt"],
    })
}

/// What is published on the results' subjects from now on.
pub async fn results(jetstream: &jetstream::Context) -> Subscriber {
    let client = jetstream.client();
    let results = client.subscribe("transaction.result.>").await.unwrap();
    client.flush().await.unwrap();
    results
}

/// Waits for a result of this record.
pub async fn result_of(results: &mut Subscriber, record: &str) -> Value {
    let wait = async {
        loop {
            let message = results.next().await.unwrap();
            match serde_json::from_slice::<Value>(&message.payload) {
                Ok(result) if result["recordId"] == record => return result,
                _ => {}
            }
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(10), wait).await;
    waited.unwrap_or_else(|_| panic!("no result of {record} was published"))
}

/// Messages that a consumer has delivered and not seen acked, and those it
/// delivered more than once among them.
pub async fn unacked(
    jetstream: &jetstream::Context,
    stream: &str,
    consumer: &str,
) -> (usize, usize) {
    let consumer: jetstream::consumer::Consumer<pull::Config> =
        jetstream.get_consumer_from_stream(consumer, stream).await.unwrap();
    let info = consumer.cached_info();
    (info.num_ack_pending, info.num_redelivered)
}

/// What a stream says of itself.
pub async fn stream(jetstream: &jetstream::Context, name: &str) -> Info {
    jetstream.get_stream(name).await.unwrap().cached_info().clone()
}

/// The dead letters so far: payload and reason.
pub async fn dead_letters(jetstream: &jetstream::Context) -> Vec<(Vec<u8>, String)> {
    try_dead_letters(jetstream).await.unwrap()
}

/// As [`dead_letters`], while a cluster may be electing who answers.
///
/// # Errors
/// If nobody does.
pub async fn try_dead_letters(jetstream: &jetstream::Context) -> Result<Vec<(Vec<u8>, String)>> {
    let stream = jetstream.get_stream("DEAD_LETTER").await?;
    let waiting = usize::try_from(stream.cached_info().state.messages)?;
    let config =
        pull::OrderedConfig { name: Some(Uuid::now_v7().to_string()), ..Default::default() };
    let consumer = stream.create_consumer(config).await?;
    let mut letters = Vec::new();
    let mut messages = consumer.messages().await?.take(waiting);
    while letters.len() < waiting {
        let next = tokio::time::timeout(Duration::from_secs(5), messages.next()).await?;
        let message = next.context("the dead letters ended early")??;
        let reason = message.headers.as_ref().and_then(|it| it.get("Passbook-Reason"));
        letters
            .push((message.payload.to_vec(), reason.map_or_else(String::new, ToString::to_string)));
    }
    Ok(letters)
}
