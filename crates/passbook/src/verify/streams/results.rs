//! Results the account-service did not settle.

use std::collections::HashMap;

use anyhow::Result;
use async_nats::jetstream::message::StreamMessage;
use contract::{
    TRANSACTION_RESULT, TransactionResult,
    bundle::Bundle,
    consumers,
    dead_letter::{message_place, part_place},
};
use ledger::Settlement;
use reconciliation::{
    Check, Finding,
    movement_row::{self, MovementRow},
};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    BATCH, MAX_SUSPECTS, RECHECK_AFTER,
    dead_letters::{Suspect, advised, without_dead_letter},
};
use crate::{
    broker::{self, Broker, StreamReader},
    output,
    verify::report::Report,
};

/// Compares the results up to the ack floor with both databases.
pub(super) async fn verify(
    broker: &Broker,
    accounts: &mut PgConnection,
    ledger: &mut PgConnection,
    report: &mut Report,
) -> Result<()> {
    let Some(stream) = broker.stream(TRANSACTION_RESULT).await? else { return Ok(()) };
    let Some(info) = broker::consumer(&stream, consumers::ACCOUNT_RESULT).await? else {
        // A new consumer starts at the first message, so every result is in flight.
        report.streams.result_messages_in_flight = stream.cached_info().state.messages;
        return Ok(());
    };
    report.streams.result_messages_in_flight = broker::unsettled(&info);
    let (subjects, until) = ("transaction.result.>", info.ack_floor.stream_sequence);
    let mut reader = StreamReader::open(broker, &stream, subjects, until, BATCH).await?;
    let progress = output::progress(
        "messages with results compared with the ledger",
        Some(reader.remaining()),
    );
    let mut suspects = Vec::new();
    while let Some(batch) = reader.next_batch().await? {
        let before = suspects.len();
        let stored: Vec<_> = batch.iter().flat_map(parts).collect();
        suspects.extend(find_suspects(accounts, ledger, &stored).await?);
        report.dropped.count_sound(stored.len() - (suspects.len() - before));
        progress.inc(u64::try_from(batch.len()).unwrap_or(0));
        if suspects.len() >= MAX_SUSPECTS {
            check(broker, std::mem::take(&mut suspects), &mut report.dropped).await?;
        }
    }
    progress.finish_and_clear();
    check(broker, suspects, &mut report.dropped).await
}

/// Results that can't have been settled: invalid ones, results without a record, and results that
/// contradict the ledger.
async fn find_suspects(
    accounts: &mut PgConnection,
    ledger: &mut PgConnection,
    stored: &[Stored],
) -> Result<Vec<Suspect>> {
    let results = || stored.iter().map(|stored| stored.result.as_ref());
    let ids: Vec<Uuid> = results().flatten().map(|result| result.record_id.as_uuid()).collect();
    let transactions = movement_row::transactions(ledger, &ids).await?;
    let records = movement_row::records(accounts, &ids).await?;
    let mut suspects = Vec::new();
    for (stored, result) in stored.iter().zip(results()) {
        let Some(finding) = suspicion(result, &transactions, &records) else { continue };
        let Stored { sequence, place, .. } = stored;
        suspects.push(Suspect { sequence: *sequence, place: place.clone(), finding });
    }
    Ok(suspects)
}

/// A result in the stream.
struct Stored {
    sequence: u64,
    /// Its place, as its dead letter would name it.
    place: String,
    /// `None` if it can't be read.
    result: Option<TransactionResult>,
}

/// The results of a message: one, or several.
fn parts(message: &StreamMessage) -> Vec<Stored> {
    let sequence = message.sequence;
    let stored = |place, body: &[u8]| {
        let result = TransactionResult::parse(&message.subject, body).ok();
        Stored { sequence, place, result }
    };
    let place = message_place(TRANSACTION_RESULT, sequence, message.time);
    match Bundle::Results.parse(&message.payload) {
        Ok(Some(parts)) => {
            let parts = parts.into_iter().enumerate();
            parts.map(|(at, part)| stored(part_place(&place, at), part.body.as_bytes())).collect()
        }
        // An invalid bundle is one dead letter, and no result.
        Ok(None) | Err(_) => vec![stored(place, &message.payload)],
    }
}

/// Counts the suspects without a dead letter as findings.
async fn check(broker: &Broker, suspects: Vec<Suspect>, dropped: &mut Check) -> Result<()> {
    let count = suspects.len();
    let mut suspects = without_dead_letter(broker, suspects).await?;
    if !suspects.is_empty() {
        tokio::time::sleep(RECHECK_AFTER).await;
        // Advisories first: an advisory stays until its dead letter is stored.
        let advised = advised(broker, consumers::ACCOUNT_RESULT).await?;
        suspects.retain(|suspect| !advised.contains(&suspect.sequence));
        suspects = without_dead_letter(broker, suspects).await?;
    }
    dropped.count_sound(count - suspects.len());
    for Suspect { sequence, finding, .. } in suspects {
        let detail = format!("{finding}, and it has no dead letter");
        dropped.count(Some(Finding::new(format!("result {sequence}"), detail)));
    }
    Ok(())
}

/// Why a result can't have been settled; `None` if it can.
fn suspicion(
    result: Option<&TransactionResult>,
    transactions: &HashMap<Uuid, MovementRow>,
    records: &HashMap<Uuid, MovementRow>,
) -> Option<String> {
    let Some(result) = result else { return Some("can't be read".to_owned()) };
    let id = result.record_id;
    if !records.contains_key(&id.as_uuid()) {
        return Some(format!("names record {id}, which does not exist"));
    }
    let Some(decided) = transactions.get(&id.as_uuid()) else {
        return Some(format!("has an outcome of record {id}, but the ledger has not decided it"));
    };
    let is_decided = decided.movement() == Some(result.movement())
        && decided.settlement() == Some(Settlement::from(result));
    (!is_decided).then(|| format!("has an outcome of record {id} that the ledger did not decide"))
}
