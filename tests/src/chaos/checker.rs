//! Compares the system's final state with the history of the clients.

use std::{collections::HashMap, time::Duration};

use anyhow::{Result, anyhow};
use rust_decimal::Decimal;
use sqlx::FromRow;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{load::Accepted, messages::is_expected_dead_letter};
use crate::{Stack, broker};

/// How long records may stay PENDING after the last disruption. The pause between two redrives
/// doubles each time.
pub(super) const SETTLED_WITHIN: Duration = Duration::from_secs(150);

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
pub(super) async fn settled(stack: &Stack) -> Result<HashMap<String, Record>> {
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
