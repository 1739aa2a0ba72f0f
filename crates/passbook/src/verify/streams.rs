//! The streams against the books: nothing that was published may be neither
//! processed nor kept as a dead letter.
//!
//! Only what its consumer is done with is judged: results and commands up to
//! the ack floor. What looks wrong there is looked at again after a while,
//! since a dead letter or an advisory may be on its way. Streams are read in
//! batches, and suspects are compared with the dead letters some thousand at a
//! time: memory does not grow with either.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use anyhow::Result;
use async_nats::jetstream::{consumer::Info, message::StreamMessage};
use contract::{
    CONSUMERS, ConsumerSpec, DEAD_LETTER, Kind, MAX_DELIVERIES, Outcome, TRANSACTION,
    TRANSACTION_RESULT, TransactionResult, consumers,
};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::report::{Check, Report};
use crate::{
    broker::{self, Broker, Walk},
    database::{self, Movement},
    dlq::{closed_subjects, open_subjects},
    output,
};

/// Messages in memory at once.
const AT_ONCE: usize = 500;
/// Suspects that are compared with the dead letters in one go.
const SUSPECTS: usize = 5_000;
/// A dead letter, or the advisory that becomes one, may take this long.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// What the streams hold.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Streams {
    pub(super) checked: bool,
    /// Why they were not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) why: Option<String>,
    /// Results that the account-service has yet to settle: no finding.
    pub(super) results_in_flight: u64,
    /// Commands that the ledger has yet to decide: no finding.
    pub(super) commands_in_flight: u64,
    /// Dead letters that nobody has dealt with, by consumer: no finding.
    pub(super) dead_letters_open: BTreeMap<String, u64>,
    /// How long the oldest of them has been there.
    pub(super) oldest_dead_letter_seconds: Option<i64>,
}

/// A message that must have a dead letter.
struct Suspect {
    sequence: u64,
    place: String,
    what: String,
}

/// Where to look.
pub(super) struct Look<'a> {
    pub(super) broker: &'a Broker,
    pub(super) accounts: &'a mut PgConnection,
    pub(super) ledger: &'a mut PgConnection,
}

impl Look<'_> {
    /// Goes through results, commands and dead letters.
    pub(super) async fn compare(&mut self, report: &mut Report) -> Result<()> {
        self.results(report).await?;
        for consumer in CONSUMERS.iter().filter(|it| it.stream == TRANSACTION) {
            self.commands(consumer, report).await?;
        }
        self.dead_letters(&mut report.streams).await?;
        report.streams.checked = true;
        Ok(())
    }

    async fn results(&mut self, report: &mut Report) -> Result<()> {
        let Some(stream) = self.broker.stream(TRANSACTION_RESULT).await? else { return Ok(()) };
        let Some(info) = broker::consumer(&stream, consumers::ACCOUNT_RESULT).await? else {
            // Whoever makes it anew delivers everything to it again.
            report.streams.results_in_flight = stream.cached_info().state.messages;
            return Ok(());
        };
        report.streams.results_in_flight = in_flight(&info);
        let (subjects, until) = ("transaction.result.>", info.ack_floor.stream_sequence);
        let mut walk = Walk::begin(self.broker, &stream, subjects, until, AT_ONCE).await?;
        let progress = output::progress("results compared with the ledger", Some(walk.left));
        let mut suspects = Vec::new();
        while let Some(batch) = walk.next().await? {
            let before = suspects.len();
            suspects.extend(self.suspects(&batch).await?);
            report.dropped.count_sound(batch.len() - (suspects.len() - before));
            progress.inc(u64::try_from(batch.len()).unwrap_or(0));
            if suspects.len() >= SUSPECTS {
                self.judge(std::mem::take(&mut suspects), &mut report.dropped).await?;
            }
        }
        progress.finish_and_clear();
        self.judge(suspects, &mut report.dropped).await
    }

    /// Those that can't have been settled: they can't be read, contradict the
    /// ledger, or are of no record.
    async fn suspects(&mut self, batch: &[StreamMessage]) -> Result<Vec<Suspect>> {
        let read: Vec<_> = batch
            .iter()
            .map(|message| {
                serde_json::from_slice::<TransactionResult>(&message.payload)
                    .ok()
                    .filter(|result| result.kind.result_subject() == message.subject.as_str())
            })
            .collect();
        let ids: Vec<Uuid> = read.iter().flatten().map(|it| it.record_id.as_uuid()).collect();
        let decided = database::transactions(self.ledger, &ids).await?;
        let records = database::records(self.accounts, &ids).await?;
        let mut suspects = Vec::new();
        for (message, result) in batch.iter().zip(read) {
            let Some(what) = suspicion(result.as_ref(), &decided, &records) else { continue };
            let (sequence, stored) = (message.sequence, message.time.unix_timestamp_nanos());
            let place = format!("{TRANSACTION_RESULT}.{sequence}.{stored}");
            suspects.push(Suspect { sequence, place, what });
        }
        Ok(suspects)
    }

    /// A suspect with a dead letter is none any more.
    async fn judge(&self, suspects: Vec<Suspect>, dropped: &mut Check) -> Result<()> {
        let all = suspects.len();
        let mut left = self.without_letters(suspects).await?;
        if !left.is_empty() {
            tokio::time::sleep(AGAIN_AFTER).await;
            // In this order: an advisory is there until its dead letter is.
            let advised = self.advised(consumers::ACCOUNT_RESULT).await?;
            left.retain(|suspect| !advised.contains(&suspect.sequence));
            left = self.without_letters(left).await?;
        }
        dropped.count_sound(all - left.len());
        for Suspect { sequence, what, .. } in left {
            let told = format!("result {sequence} {what}, and there is no dead letter of it");
            dropped.count(Some(told));
        }
        Ok(())
    }

    async fn without_letters(&self, suspects: Vec<Suspect>) -> Result<Vec<Suspect>> {
        let stream = self.broker.stream(DEAD_LETTER).await?;
        let Some(stream) = stream.filter(|_| !suspects.is_empty()) else { return Ok(suspects) };
        let mut left: HashMap<_, _> =
            suspects.into_iter().map(|suspect| (suspect.place.clone(), suspect)).collect();
        // Open first: one that is closed meanwhile is written down before it is removed.
        for subjects in [open_subjects(TRANSACTION_RESULT), closed_subjects(TRANSACTION_RESULT)] {
            let until = stream.get_info().await?.state.last_sequence;
            let mut walk = Walk::begin(self.broker, &stream, &subjects, until, AT_ONCE).await?;
            while let Some(batch) = walk.next().await? {
                for message in batch {
                    if let Some(place) = message.headers.get("Passbook-Message") {
                        left.remove(place.as_str());
                    }
                }
            }
        }
        let mut left: Vec<_> = left.into_values().collect();
        left.sort_by_key(|suspect| suspect.sequence);
        Ok(left)
    }

    /// The places of messages that are about to become dead letters: the
    /// advisories that nobody has worked off yet.
    async fn advised(&self, consumer: &str) -> Result<HashSet<u64>> {
        #[derive(Deserialize)]
        struct Advisory {
            consumer: String,
            stream_seq: u64,
        }
        let Some(stream) = self.broker.stream(MAX_DELIVERIES).await? else {
            return Ok(HashSet::new());
        };
        let mut advised = HashSet::new();
        let mut next = stream.cached_info().state.first_sequence;
        while advised.len() < SUSPECTS {
            let answer = stream.get_first_raw_message_by_subject(">", next).await;
            let Some(message) = broker::found(answer)? else { break };
            next = message.sequence + 1;
            let advisory = serde_json::from_slice(&message.payload).ok();
            let ours = advisory.filter(|it: &Advisory| it.consumer == consumer);
            advised.extend(ours.map(|it| it.stream_seq));
        }
        Ok(advised)
    }

    /// Commands that lie behind their consumer's ack floor: delivered as often
    /// as is allowed, never settled, and delivered no more.
    async fn commands(&self, spec: &ConsumerSpec, report: &mut Report) -> Result<()> {
        let mut lost = self.left_behind(spec, &mut report.streams).await?;
        if !lost.is_empty() {
            tokio::time::sleep(AGAIN_AFTER).await;
            let advised = self.advised(spec.name).await?;
            lost = self.left_behind(spec, &mut Streams::default()).await?;
            lost.retain(|(sequence, _)| !advised.contains(sequence));
        }
        for (sequence, stored) in lost {
            let age = age(stored);
            report.dropped.count(Some(match sequence {
                0 => format!("commands wait, and there is no {} to deliver them", spec.name),
                _ => format!("command {sequence} is {age} old and will never be delivered again"),
            }));
        }
        Ok(())
    }

    /// Sequence and time of each; sequence 0 for all of them, where there is
    /// no consumer.
    async fn left_behind(
        &self,
        spec: &ConsumerSpec,
        told: &mut Streams,
    ) -> Result<Vec<(u64, OffsetDateTime)>> {
        let Some(stream) = self.broker.stream(TRANSACTION).await? else { return Ok(Vec::new()) };
        let Some(info) = broker::consumer(&stream, spec.name).await? else {
            let first = stream.get_first_raw_message_by_subject(spec.filter, 1).await;
            return Ok(broker::found(first)?.map(|it| (0, it.time)).into_iter().collect());
        };
        told.commands_in_flight += in_flight(&info);
        broker::left_behind(&stream, &info, SUSPECTS).await
    }

    async fn dead_letters(&self, told: &mut Streams) -> Result<()> {
        let Some(stream) = self.broker.stream(DEAD_LETTER).await? else { return Ok(()) };
        let (subjects, until) = (open_subjects("*"), stream.cached_info().state.last_sequence);
        let mut walk = Walk::begin(self.broker, &stream, &subjects, until, AT_ONCE).await?;
        while let Some(batch) = walk.next().await? {
            for message in batch {
                let consumer = message.subject.rsplit('.').next().unwrap_or_default();
                *told.dead_letters_open.entry(consumer.to_owned()).or_default() += 1;
                let seconds = || (OffsetDateTime::now_utc() - message.time).whole_seconds();
                told.oldest_dead_letter_seconds.get_or_insert_with(seconds);
            }
        }
        Ok(())
    }
}

/// Why a result can't have been settled, if it can't.
fn suspicion(
    result: Option<&TransactionResult>,
    decided: &HashMap<Uuid, Movement>,
    records: &HashMap<Uuid, Movement>,
) -> Option<String> {
    let Some(result) = result else { return Some("can't be read".to_owned()) };
    let id = result.record_id;
    if !records.contains_key(&id.as_uuid()) {
        return Some(format!("names record {id}, which does not exist"));
    }
    let Some(decided) = decided.get(&id.as_uuid()) else {
        return Some(format!("tells an outcome of record {id}, which the ledger has not decided"));
    };
    let (status, reason, balance) = match result.outcome {
        Outcome::Applied { balance_after, .. } => {
            ("SUCCESS", None, Some(balance_after.as_decimal()))
        }
        Outcome::Refused(reason) => ("FAILED", Some(reason.as_str()), None),
    };
    let same = decided.transaction_id == Some(result.transaction_id)
        && decided.account_id == result.account_id.as_uuid()
        && Kind::parse(&decided.r#type) == Some(result.kind)
        && decided.amount == result.amount.as_decimal()
        && decided.currency == result.currency.code()
        && decided.status == status
        && decided.reason.as_deref() == reason
        && decided.balance_after == balance;
    (!same).then(|| format!("tells of record {id} what the ledger did not decide"))
}

/// Messages that a consumer has yet to be done with.
fn in_flight(info: &Info) -> u64 {
    info.num_pending.saturating_add(u64::try_from(info.num_ack_pending).unwrap_or(u64::MAX))
}

fn age(since: OffsetDateTime) -> humantime::FormattedDuration {
    let seconds = (OffsetDateTime::now_utc() - since).whole_seconds();
    humantime::format_duration(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}
