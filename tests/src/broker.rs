//! NATS as an operator sees it: streams, consumers and dead letters. Also
//! publishes messages no service would publish.

use std::time::Duration;

use anyhow::{Context, Result};
use async_nats::{
    HeaderMap, Subscriber,
    jetstream::{
        self, AckKind,
        consumer::{Config, Consumer, pull},
        message::StreamMessage,
        stream::Info,
    },
};
use futures::StreamExt;
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use crate::{Response, Stack, client::new_key, eventually};

/// A connection with all permissions.
pub async fn connect(stack: &Stack) -> jetstream::Context {
    try_connect(stack).await.unwrap()
}

/// As [`connect`], while the broker may be down.
///
/// # Errors
/// The broker can't be reached.
pub async fn try_connect(stack: &Stack) -> Result<jetstream::Context> {
    let nats = stack.file().nats;
    let urls: Vec<async_nats::ServerAddr> =
        nats.split(',').map(|url| url.parse().unwrap()).collect();
    // The client ignores the user and password of a URL.
    let (user, password) = (urls[0].username().unwrap(), urls[0].password().unwrap());
    let options = async_nats::ConnectOptions::with_user_and_password(user.into(), password.into());
    Ok(jetstream::new(options.connect(&urls[..]).await?))
}

/// Publishes and awaits the PubAck. Gives the sequence in the stream.
pub async fn publish(
    jetstream: &jetstream::Context,
    subject: &str,
    message_id: &str,
    payload: impl Into<Vec<u8>>,
) -> u64 {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", message_id);
    let payload = payload.into().into();
    let sent = jetstream.publish_with_headers(subject.to_owned(), headers, payload).await;
    sent.unwrap().await.unwrap().sequence
}

/// The command of a record, as the account-service writes it.
#[must_use]
pub fn command_of(record: &Response) -> Value {
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

/// The command of a deposit in KRW.
#[must_use]
pub fn deposit_command(record: &str, account: &str, amount: &str) -> String {
    json!({
        "recordId": record, "accountId": account, "userId": "teller", "type": "DEPOSIT",
        "amount": amount, "currency": "KRW", "requestedAt": "2026-01-02T03:04:05Z",
    })
    .to_string()
}

/// Subscribes to all results published from now on.
pub async fn results(jetstream: &jetstream::Context) -> Subscriber {
    let client = jetstream.client();
    let results = client.subscribe("transaction.result.>").await.unwrap();
    client.flush().await.unwrap();
    results
}

/// The commands or results of a message, which has one or several; none if it is not JSON.
#[must_use]
pub fn parts(payload: &[u8]) -> Vec<Value> {
    let Ok(mut message) = serde_json::from_slice::<Value>(payload) else { return Vec::new() };
    for field in ["commands", "results"] {
        if let Some(Value::Array(parts)) = message.get_mut(field).map(Value::take) {
            return parts;
        }
    }
    vec![message]
}

/// Waits up to 10 s for a result of this record.
pub async fn result_of(results: &mut Subscriber, record: &str) -> Value {
    let wait = async {
        loop {
            let message = results.next().await.unwrap();
            let results = parts(&message.payload);
            if let Some(result) = results.into_iter().find(|result| result["recordId"] == record) {
                return result;
            }
        }
    };
    let result = tokio::time::timeout(Duration::from_secs(10), wait).await;
    result.unwrap_or_else(|_| panic!("no result of {record} was published"))
}

/// A pull consumer, with its state as of now.
pub async fn consumer(
    jetstream: &jetstream::Context,
    stream: &str,
    name: &str,
) -> Consumer<pull::Config> {
    jetstream.get_consumer_from_stream(name, stream).await.unwrap()
}

/// Changes the settings of a consumer. Its workers keep them until they look the consumer up again.
pub async fn change_consumer(
    jetstream: &jetstream::Context,
    stream: &str,
    name: &str,
    change: impl FnOnce(&mut Config),
) {
    let stream = jetstream.get_stream(stream).await.unwrap();
    let mut config = stream.consumer_info(name).await.unwrap().config;
    change(&mut config);
    stream.update_consumer(config).await.unwrap();
}

/// How many deliveries of this consumer were repeated ones.
pub async fn redeliveries(
    jetstream: &jetstream::Context,
    stream: &str,
    consumer_name: &str,
) -> u64 {
    let consumer = consumer(jetstream, stream, consumer_name).await;
    let delivered = &consumer.cached_info().delivered;
    delivered.consumer_sequence.saturating_sub(delivered.stream_sequence)
}

/// The messages delivered and not acked yet, and how many of them were delivered more than once.
pub async fn unacked(
    jetstream: &jetstream::Context,
    stream: &str,
    consumer_name: &str,
) -> (usize, usize) {
    let consumer = consumer(jetstream, stream, consumer_name).await;
    let info = consumer.cached_info();
    (info.num_ack_pending, info.num_redelivered)
}

/// Waits until the consumer has no unacked message.
pub async fn all_acked(
    jetstream: &jetstream::Context,
    stream: &str,
    consumer_name: &str,
    within: Duration,
) {
    eventually(&format!("{consumer_name} has no unacked message"), within, || async {
        (unacked(jetstream, stream, consumer_name).await == (0, 0)).then_some(())
    })
    .await;
}

/// Waits until no worker's pull request is open at the consumer.
pub async fn no_open_pulls(jetstream: &jetstream::Context, stream: &str, consumer_name: &str) {
    let what = format!("no pull request is open at {consumer_name}");
    eventually(&what, Duration::from_secs(10), || async {
        let consumer = consumer(jetstream, stream, consumer_name).await;
        (consumer.cached_info().num_waiting == 0).then_some(())
    })
    .await;
}

/// Fetches one message and returns it with `Nak`, to be delivered again after 10 ms. Gives its
/// payload.
pub async fn fetch_and_nak(consumer: &Consumer<pull::Config>) -> Vec<u8> {
    let fetch = consumer.fetch().max_messages(1).expires(Duration::from_secs(5));
    let message = fetch.messages().await.unwrap().next().await.unwrap().unwrap();
    message.ack_with(AckKind::Nak(Some(Duration::from_millis(10)))).await.unwrap();
    message.payload.to_vec()
}

/// The configuration and state of a stream.
pub async fn stream(jetstream: &jetstream::Context, name: &str) -> Info {
    jetstream.get_stream(name).await.unwrap().cached_info().clone()
}

/// Waits until the stream holds exactly this number of messages.
pub async fn stream_holds(
    jetstream: &jetstream::Context,
    name: &str,
    messages: u64,
    within: Duration,
) {
    eventually(&format!("{name} holds {messages} messages"), within, || async {
        (stream(jetstream, name).await.state.messages == messages).then_some(())
    })
    .await;
}

/// The message with this sequence in a stream, unless it was removed.
pub async fn message(
    jetstream: &jetstream::Context,
    stream: &str,
    sequence: u64,
) -> Option<StreamMessage> {
    let stream = jetstream.get_stream_no_info(stream).await.unwrap();
    stream.get_raw_message(sequence).await.ok()
}

/// The sequence of the newest message in a stream with this text in its payload.
pub async fn newest_with(
    jetstream: &jetstream::Context,
    stream_name: &str,
    text: &str,
) -> Option<u64> {
    let state = stream(jetstream, stream_name).await.state;
    for sequence in (state.first_sequence..=state.last_sequence).rev() {
        if let Some(message) = message(jetstream, stream_name, sequence).await
            && String::from_utf8_lossy(&message.payload).contains(text)
        {
            return Some(sequence);
        }
    }
    None
}

/// Publishes the stored result of a deposit once more, in a message of its own: the stored one may
/// share its message with results of other tests. Gives its body and its sequence.
pub async fn publish_result_alone(jetstream: &jetstream::Context, record: &str) -> (String, u64) {
    let sequence = newest_with(jetstream, "TRANSACTION_RESULT", record).await;
    let stored = message(jetstream, "TRANSACTION_RESULT", sequence.unwrap()).await.unwrap();
    let results = parts(&stored.payload).into_iter();
    let mut own = results.filter(|result| result["recordId"] == record);
    let body = own.next().unwrap().to_string();
    let sequence =
        publish(jetstream, "transaction.result.deposit", &new_key(), body.as_str()).await;
    (body, sequence)
}

/// Publishes the server's advisory about a result whose deliveries reached the maximum. Gives the
/// advisory's sequence in its stream.
pub async fn publish_max_deliveries_advisory(
    jetstream: &jetstream::Context,
    sequence: u64,
    at: OffsetDateTime,
) -> u64 {
    let advisory = json!({
        "type": "io.nats.jetstream.advisory.v1.max_deliver",
        "timestamp": at.format(&Rfc3339).unwrap(),
        "stream": "TRANSACTION_RESULT", "consumer": "account-result-consumer",
        "stream_seq": sequence, "deliveries": 3,
    });
    let subject =
        "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.TRANSACTION_RESULT.account-result-consumer";
    publish(jetstream, subject, &new_key(), advisory.to_string()).await
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    pub body: Vec<u8>,
    pub reason: String,
}

/// All dead letters so far, oldest first.
pub async fn dead_letters(jetstream: &jetstream::Context) -> Vec<DeadLetter> {
    try_dead_letters(jetstream).await.unwrap()
}

/// As [`dead_letters`], while a cluster may be electing the leader of the stream.
///
/// # Errors
/// The stream can't be read.
pub async fn try_dead_letters(jetstream: &jetstream::Context) -> Result<Vec<DeadLetter>> {
    let stream = jetstream.get_stream("DEAD_LETTER").await?;
    let count = usize::try_from(stream.cached_info().state.messages)?;
    let config =
        pull::OrderedConfig { name: Some(Uuid::now_v7().to_string()), ..Default::default() };
    let consumer = stream.create_consumer(config).await?;
    let mut dead_letters = Vec::new();
    let mut messages = consumer.messages().await?.take(count);
    while dead_letters.len() < count {
        let next = tokio::time::timeout(Duration::from_secs(5), messages.next()).await?;
        let message = next.context("the dead letters ended early")??;
        let reason = message.headers.as_ref().and_then(|headers| headers.get("Passbook-Reason"));
        dead_letters.push(DeadLetter {
            body: message.payload.to_vec(),
            reason: reason.map_or_else(String::new, ToString::to_string),
        });
    }
    Ok(dead_letters)
}

/// Waits for the first dead letter with a matching body.
pub async fn dead_letter(
    jetstream: &jetstream::Context,
    within: Duration,
    matches: impl Fn(&[u8]) -> bool,
) -> DeadLetter {
    eventually("the message is dead-lettered", within, || async {
        dead_letters(jetstream).await.into_iter().find(|dead_letter| matches(&dead_letter.body))
    })
    .await
}
