//! Compares the system's final state with the history of the clients.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use anyhow::{Result, anyhow};
use async_nats::jetstream::consumer::{Consumer, pull};
use contract::{TRANSACTION, TRANSACTION_RESULT, consumers};
use rust_decimal::Decimal;
use sqlx::FromRow;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{
    load::{Accepted, send_batch},
    messages::is_expected_dead_letter,
};
use crate::{Client, Stack, broker};

/// How long records may stay PENDING after the last disruption. The pause between two redrives
/// doubles each time.
pub(super) const SETTLED_WITHIN: Duration = Duration::from_secs(150);

/// Movements of a request that repeats them.
const REPLAYED_AT_ONCE: usize = 100;

/// All records by their ids.
pub(super) type Records = HashMap<String, Record>;

/// A row of the account database.
#[derive(Debug, FromRow)]
pub(super) struct Record {
    account_id: Uuid,
    r#type: String,
    amount: Decimal,
    pub(super) idempotency_key: String,
    pub(super) status: String,
}

/// Waits until no record is PENDING. Gives all records by their ids.
pub(super) async fn settled(stack: &Stack) -> Result<Records> {
    let pool = stack.accounts().await;
    let deadline = Instant::now() + SETTLED_WITHIN;
    loop {
        let pending: Vec<(Uuid, i32)> = sqlx::query_as(
            "SELECT id, redrives FROM transaction_records WHERE status = 'PENDING' ORDER BY id",
        )
        .fetch_all(&pool)
        .await?;
        if pending.is_empty() {
            break;
        }
        if Instant::now() > deadline {
            let first = &pending[..pending.len().min(10)];
            return Err(anyhow!("{} records are still PENDING: {first:?}", pending.len()));
        }
        sleep(Duration::from_millis(100)).await;
    }
    let rows: Vec<(Uuid, Record)> = sqlx::query(
        "SELECT id, account_id, type, amount, idempotency_key, status FROM transaction_records",
    )
    .fetch_all(&pool)
    .await?
    .iter()
    .map(|row| Ok((sqlx::Row::try_get(row, "id")?, Record::from_row(row)?)))
    .collect::<Result<_, sqlx::Error>>()?;
    Ok(rows.into_iter().map(|(id, record)| (id.to_string(), record)).collect())
}

/// Describes the difference between an accepted movement and its stored record, if there is one.
pub(super) fn contradiction(accepted: &Accepted, record: Option<&Record>) -> Option<String> {
    let Some(record) = record else { return Some(format!("accepted and lost: {accepted:?}")) };
    let same = record.account_id.to_string() == accepted.account
        && record.r#type == accepted.kind
        && record.amount == Decimal::from(accepted.amount)
        && record.idempotency_key == accepted.key
        && accepted.status.as_ref().is_none_or(|status| *status == record.status);
    (!same).then(|| format!("the client observed {accepted:?}, the database has {record:?}"))
}

/// Describes each stored key of these, whose clients were told "not stored".
pub(super) fn stored(not_stored: &[String], records: &Records) -> Vec<String> {
    let keys: HashSet<_> = records.values().map(|record| &*record.idempotency_key).collect();
    let stored = not_stored.iter().filter(|key| keys.contains(key.as_str()));
    stored.map(|key| format!("answered \"not stored\": {key}")).collect()
}

/// Repeats requests with an unknown outcome. Describes each answer with another record than the
/// stored one.
pub(super) async fn replayed(
    stack: &Stack,
    unknown: &[Accepted],
    records: &Records,
) -> Vec<String> {
    let client = Client::teller(stack);
    let by_key: HashMap<_, _> =
        records.iter().map(|(id, record)| (&*record.idempotency_key, id)).collect();
    let mut findings = Vec::new();
    for movements in unknown.chunks(REPLAYED_AT_ONCE) {
        let (status, answer) = send_batch(&client, movements).await;
        let items = answer["items"].as_array().cloned().unwrap_or_default();
        if status != 200 || items.len() != movements.len() {
            findings.push(format!("the repeated requests were answered {status} {answer}"));
            continue;
        }
        for (movement, item) in movements.iter().zip(items) {
            let (id, status) = (&item["record"]["recordId"], &item["record"]["status"]);
            let is_truth = match by_key.get(&*movement.key) {
                Some(stored) => {
                    *id == **stored
                        && *status == records[*stored].status
                        && item["replayed"] == true
                }
                // Not stored so far.
                None => id.is_string() && item["replayed"] != true && movement.record.is_empty(),
            };
            if !is_truth {
                findings.push(format!("a repeat of {movement:?} was answered {item}"));
            }
        }
    }
    findings
}

/// Waits until the queue of commands is empty and each result is acked.
pub(super) async fn drained(stack: &Stack) -> Result<()> {
    let deadline = Instant::now() + SETTLED_WITHIN;
    loop {
        let left = match left_over(stack).await {
            Ok((0, 0)) => return Ok(()),
            left => left,
        };
        if Instant::now() > deadline {
            return Err(anyhow!("messages in TRANSACTION, unacked results: {left:?}"));
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// The number of commands in their stream, and that of results not acked yet.
async fn left_over(stack: &Stack) -> Result<(u64, u64)> {
    let jetstream = broker::try_connect(stack).await?;
    let commands = jetstream.get_stream(TRANSACTION).await?.cached_info().state.messages;
    let results: Consumer<pull::Config> =
        jetstream.get_consumer_from_stream(consumers::ACCOUNT_RESULT, TRANSACTION_RESULT).await?;
    let info = results.cached_info();
    Ok((commands, info.num_pending + u64::try_from(info.num_ack_pending)?))
}

/// Describes each dead letter of a message that the services published.
pub(super) async fn unexpected_dead_letters(stack: &Stack) -> Vec<String> {
    let dead_letters = loop {
        let attempt = async { broker::try_dead_letters(&broker::try_connect(stack).await?).await };
        match attempt.await {
            Ok(dead_letters) => break dead_letters,
            // A cluster may still be electing the leader of the stream.
            Err(_) => sleep(Duration::from_millis(500)).await,
        }
    };
    let unexpected =
        dead_letters.into_iter().filter(|letter| !is_expected_dead_letter(&letter.body));
    unexpected
        .map(|dead_letter| {
            let body = String::from_utf8_lossy(&dead_letter.body);
            format!("unexpected dead letter: {body}: {}", dead_letter.reason)
        })
        .collect()
}
