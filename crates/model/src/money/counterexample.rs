//! Describes a path in words. Sorting a state reorders its replicas: here each
//! replica keeps its letter.

use stateright::Model;

use crate::money::{
    action::Action,
    databases::{Outcome, Record, RecordId, Transaction},
    drain::Schedule,
    protocol::Protocol,
    replica::{Acknowledgement, Delivery, Replica, ReplicaId, Service},
    scenario::Poison,
    state::State,
    streams::{Body, Message, MessageId, Part, Publication, StreamName, Wipe},
};

/// The letters of the replicas, in the order of the state.
struct Letters {
    account: Vec<char>,
    transaction: Vec<char>,
}

/// Describes each step in a line, and then the last state and its drained state
/// in one more line each.
#[must_use]
pub fn describe(protocol: &Protocol, path: &[Action]) -> Vec<String> {
    let Some(mut state) = protocol.init_states().pop() else { return Vec::new() };
    let initial = |replicas: &[Replica]| ('a'..='z').take(replicas.len()).collect();
    let mut letters = Letters {
        account: initial(&state.account_replicas),
        transaction: initial(&state.transaction_replicas),
    };
    let mut lines = Vec::new();
    for action in path {
        lines.push(action_text(protocol, &state, &letters, action));
        if protocol.apply(&mut state, *action).is_none() {
            break;
        }
        letters.account = sorted_letters(&state.account_replicas, &letters.account);
        letters.transaction = sorted_letters(&state.transaction_replicas, &letters.transaction);
        state.sort();
    }
    lines.push(format!("now: {}", state_text(&state)));
    let drained = protocol.drain(&state, true, Schedule::First);
    lines.push(format!("after a drain without faults: {}", state_text(&drained)));
    lines
}

/// The letters in the order that [`State::sort`] will give their replicas.
fn sorted_letters(replicas: &[Replica], letters: &[char]) -> Vec<char> {
    let sorted = |replica: &Replica| {
        let mut replica = replica.clone();
        replica.sort();
        replica
    };
    let mut pairs: Vec<_> = replicas.iter().map(sorted).zip(letters).collect();
    pairs.sort();
    pairs.into_iter().map(|(_, letter)| *letter).collect()
}

impl Letters {
    fn name(&self, replica: ReplicaId) -> String {
        let (service, letters) = match replica.service {
            Service::Account => ("account-service", &self.account),
            Service::Transaction => ("transaction-service", &self.transaction),
        };
        format!("{service} {}", letters.get(replica.index).unwrap_or(&'?'))
    }
}

fn action_text(protocol: &Protocol, state: &State, letters: &Letters, action: &Action) -> String {
    let name = |replica: &ReplicaId| letters.name(*replica);
    let delivery = |replica: &ReplicaId| state.delivery(*replica);
    let acknowledges = |replica: &ReplicaId| delivery(replica).map_or("", acknowledgement_verb);
    let processed = |replica: &ReplicaId| {
        delivery(replica).map_or_else(String::new, |delivery| message_text(&delivery.id.message))
    };
    match action {
        Action::Accept(replica, id) => {
            let amount = protocol.scenario.request(*id).map_or(0, |request| request.amount);
            let kind = if amount < 0 { "withdrawal" } else { "deposit" };
            format!(
                "{} commits {} as PENDING, a {kind} of {}",
                name(replica),
                record_name(*id),
                amount.unsigned_abs()
            )
        }
        Action::SendUnrecorded(replica, id) => format!(
            "{} publishes the command of {}, before the record is committed",
            name(replica),
            record_name(*id)
        ),
        Action::Claim(replica, id) => {
            format!("the redrive of {} claims {}", name(replica), record_name(*id))
        }
        Action::Send(replica, message) => {
            format!("{} publishes {}", name(replica), message_text(message))
        }
        Action::DelaySend(replica, message) => {
            format!("{} publishes {}: it is delayed", name(replica), message_text(message))
        }
        Action::Deliver(replica, id) => {
            let other =
                if state.is_in_progress(id) { ", after another ack wait ended" } else { "" };
            format!("{} receives {}{other}", name(replica), message_text(&id.message))
        }
        Action::ReceiveAdvisory(replica, id) => format!(
            "{} receives the max-deliveries advisory about {}",
            name(replica),
            message_text(&id.message)
        ),
        Action::Sweep(replica, id) => format!(
            "the sweep of {} finds {} at max_deliver",
            name(replica),
            message_text(&id.message)
        ),
        Action::Read(replica, part) => format!(
            "{} looks for a stored decision of {}",
            name(replica),
            state.part(*replica, *part).map_or_else(String::new, |(part, _)| part_text(part))
        ),
        Action::PublishUncommitted(replica, _) => {
            format!("{} publishes a result before it commits the outcome", name(replica))
        }
        Action::Commit(replica, part) => {
            format!("{} {}", name(replica), commit_text(protocol, state, *replica, *part))
        }
        Action::Publish(replica, publication) => format!(
            "{} publishes {} and gets the PubAck",
            name(replica),
            publication_text(publication)
        ),
        Action::DelayPublish(replica, publication) => format!(
            "{} publishes {}: it is delayed, and no PubAck arrives",
            name(replica),
            publication_text(publication)
        ),
        Action::Acknowledge(replica) => {
            format!("{} {} {}", name(replica), acknowledges(replica), processed(replica))
        }
        Action::AcknowledgeOther(replica, other) => format!(
            "{} {} {}, which was lost: this removes {}",
            name(replica),
            acknowledges(replica),
            processed(replica),
            message_text(&other.message)
        ),
        Action::Arrive(publication) => {
            format!("a delayed publication arrives: {}", publication_text(publication))
        }
        Action::Crash(replica) => format!("{} crashes and starts again", name(replica)),
        Action::Wipe(Wipe::Everything) => "the broker loses all streams".to_owned(),
        Action::Wipe(Wipe::Stream(stream)) => {
            format!("{} is deleted and created again", stream_text(*stream))
        }
        Action::Wipe(Wipe::Messages(stream)) => {
            format!("{} loses its messages, but not their ids", stream_text(*stream))
        }
        Action::ExpireWindow(stream) => {
            format!("the duplicate window of {} ends", stream_text(*stream))
        }
        Action::LoseAdvisory(id) => {
            format!("the max-deliveries advisory about {} is lost", message_text(&id.message))
        }
        Action::LowerLimit => {
            "from now on, the broker refuses messages with several parts".to_owned()
        }
        Action::FindLocked(replica, _) => {
            format!("{} finds an account of {} locked", name(replica), processed(replica))
        }
        Action::Discard(id) => format!("the stream discards {}", message_text(&id.message)),
        Action::SendStray(message) => {
            format!("a stray publisher sends {}", message_text(message))
        }
    }
}

fn commit_text(protocol: &Protocol, state: &State, replica: ReplicaId, index: usize) -> String {
    let Some((part, _)) = state.part(replica, index) else { return String::new() };
    let mut next = state.clone();
    if protocol.apply(&mut next, Action::Commit(replica, index)).is_none() {
        return "can't commit".to_owned();
    }
    match part.body {
        Body::Unreadable => "can't parse a part".to_owned(),
        Body::Command(id) if protocol.scenario.poison(id) == Some(Poison::Kills) => {
            format!("crashes on {}", part_text(part))
        }
        Body::Command(id) if protocol.scenario.poison(id) == Some(Poison::Fails) => {
            format!("can't process {}", part_text(part))
        }
        Body::Command(id) => match next.ledger.transactions.last() {
            Some(row) if next.ledger != state.ledger => format!("commits: {}", row_text(row)),
            _ if next.first_decisions != state.first_decisions => {
                format!("refuses {} and stores nothing", record_name(id))
            }
            _ => format!("finds {} decided, or loses a race to decide it", record_name(id)),
        },
        Body::Result(result) if next.records != state.records => {
            format!("settles {}: {}", record_name(result.record), row_text(&result))
        }
        Body::Result(result) => format!("leaves {} unchanged", record_name(result.record)),
    }
}

fn record_name(id: RecordId) -> String {
    format!("record {}", u32::from(id.0) + 1)
}

fn message_text(message: &Message) -> String {
    let texts: Vec<_> = message.parts.iter().map(part_text).collect();
    if message.is_bundle() { format!("({})", texts.join(", ")) } else { texts.concat() }
}

fn part_text(part: Part) -> String {
    let id = match part.id {
        MessageId::Record(id) => format!(" [{}]", u32::from(id.0) + 1),
        MessageId::Attempt(id, attempt) => format!(" [{}.{attempt}]", u32::from(id.0) + 1),
        MessageId::None => String::new(),
    };
    match part.body {
        Body::Command(record) => format!("the command{id} of {}", record_name(record)),
        Body::Result(result) => format!("the result{id} of {}", row_text(&result)),
        Body::Unreadable => "an unreadable message".to_owned(),
    }
}

fn row_text(row: &Transaction) -> String {
    let record = record_name(row.record);
    match row.outcome {
        Outcome::Applied { balance_after, account_seq } => {
            format!("{record} applied as number {account_seq}, balance {balance_after}")
        }
        Outcome::Refused => format!("{record} refused"),
    }
}

fn publication_text(publication: &Publication) -> String {
    match publication {
        Publication::Message(message) => message_text(message),
        Publication::DeadLetter(letter) => {
            format!("the dead letter of {}", part_text(letter.part))
        }
    }
}

fn acknowledgement_verb(delivery: Delivery) -> &'static str {
    match delivery.acknowledgement {
        Acknowledgement::Ack => "acks",
        Acknowledgement::Term => "terms",
        Acknowledgement::Delete => "deletes",
    }
}

const fn stream_text(name: StreamName) -> &'static str {
    match name {
        StreamName::Commands => "TRANSACTION",
        StreamName::Results => "TRANSACTION_RESULT",
    }
}

fn state_text(state: &State) -> String {
    let mut parts = Vec::new();
    for (id, record) in (0..).map(RecordId).zip(&state.records) {
        parts.push(match record {
            Record::NotRequested => continue,
            Record::Pending { .. } => format!("{} is PENDING", record_name(id)),
            Record::Settled(result) => match result.outcome {
                Outcome::Applied { .. } => format!("{} is SUCCESS", record_name(id)),
                Outcome::Refused => format!("{} is FAILED", record_name(id)),
            },
        });
    }
    let rows: Vec<_> = state.ledger.transactions.iter().map(row_text).collect();
    parts.push(if rows.is_empty() {
        "the ledger is empty".to_owned()
    } else {
        format!("the ledger has {}", rows.join(" and "))
    });
    for (projected, balance) in state.projected.iter().zip(&state.ledger.balances) {
        parts.push(format!("balance {}, projected {}", balance.amount, projected.amount));
    }
    for letter in &state.dead_letters {
        parts.push(format!("{} is dead-lettered", part_text(letter.part)));
    }
    parts.join("; ")
}
