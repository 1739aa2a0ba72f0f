//! What there is in the end, against what the clients were told.

use std::{collections::HashMap, time::Duration};

use anyhow::{Result, anyhow};
use rust_decimal::Decimal;
use serde_json::Value;
use sqlx::FromRow;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{SETTLED_WITHIN, load::Accepted, run::POISON};
use crate::{Stack, broker};

/// A record as the database has it.
#[derive(Debug, FromRow)]
pub(super) struct Record {
    account_id: Uuid,
    r#type: String,
    amount: Decimal,
    idempotency_key: String,
    pub(super) status: String,
}

/// All records, once none is PENDING.
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
            return Err(anyhow!("{} records are PENDING still: {first:?}", pending.len()));
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

/// What a client was told, against what there is.
pub(super) fn contradiction(told: &Accepted, record: Option<&Record>) -> Option<String> {
    let Some(record) = record else { return Some(format!("accepted and lost: {told:?}")) };
    let same = record.account_id.to_string() == told.account
        && record.r#type == told.kind
        && record.amount == Decimal::from(told.amount)
        && record.idempotency_key == told.key
        && told.told.as_ref().is_none_or(|it| *it == record.status);
    (!same).then(|| format!("told {told:?}, and there is {record:?}"))
}

/// Dead letters that nobody wrote.
pub(super) async fn unexpected_letters(stack: &Stack) -> Vec<String> {
    let letters = loop {
        let read = async { broker::try_dead_letters(&broker::try_connect(stack).await?).await };
        match read.await {
            Ok(letters) => break letters,
            // A cluster may still be electing who answers for the stream.
            Err(_) => sleep(Duration::from_millis(500)).await,
        }
    };
    let ours = letters.into_iter().filter(|(payload, _)| {
        let written: Option<Value> = serde_json::from_slice(payload).ok();
        // A copy of a command is a good message; what is forged or poison is none.
        let forged = written.is_some_and(|it| it.get(POISON).is_some_and(Value::is_null));
        !forged && !String::from_utf8_lossy(payload).contains("\": null")
    });
    ours.map(|(payload, reason)| {
        format!("a dead letter of ours: {}: {reason}", String::from_utf8_lossy(&payload))
    })
    .collect()
}
