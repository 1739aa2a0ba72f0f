//! A path in words. Equal replicas change places when states are sorted; here
//! each keeps its letter.

use stateright::Model;

use crate::{
    action::Action,
    broker::{Body, Message, MessageId, Publication, StreamName, Wipe},
    protocol::Protocol,
    state::{
        End, Hand, Outcome, Phase, Record, RecordId, Replica, Service, State, Transaction, Who,
    },
};

/// The letters of the replicas, in the order of the state's.
struct Letters {
    account: Vec<char>,
    transaction: Vec<char>,
}

/// What happens, one line a step, and how it stands at the end.
#[must_use]
pub fn tell(protocol: &Protocol, actions: &[Action]) -> Vec<String> {
    let Some(mut state) = protocol.init_states().pop() else { return Vec::new() };
    let letters = |replicas: &[Replica]| ('a'..='z').take(replicas.len()).collect();
    let mut names =
        Letters { account: letters(&state.account), transaction: letters(&state.transaction) };
    let mut lines = Vec::new();
    for action in actions {
        lines.push(in_words(protocol, &state, &names, action));
        if protocol.apply(&mut state, *action).is_none() {
            break;
        }
        names.account = follow(&state.account, &names.account);
        names.transaction = follow(&state.transaction, &names.transaction);
        state.sort();
    }
    lines.push(format!("so: {}", stands(&state)));
    let left = protocol.drain(&state, true, crate::drain::Order::First);
    lines.push(format!("and if no more goes wrong: {}", stands(&left)));
    lines
}

fn follow(replicas: &[Replica], letters: &[char]) -> Vec<char> {
    // As `State::sort` will put them.
    let sorted = |replica: &Replica| {
        let mut replica = replica.clone();
        replica.outgoing.sort_unstable();
        replica.uncommitted.sort_unstable();
        replica
    };
    let mut named: Vec<_> = replicas.iter().map(sorted).zip(letters).collect();
    named.sort();
    named.into_iter().map(|(_, letter)| *letter).collect()
}

impl Letters {
    fn of(&self, who: Who) -> String {
        let (service, letters) = match who.service {
            Service::Account => ("account-service", &self.account),
            Service::Transaction => ("transaction-service", &self.transaction),
        };
        format!("{service} {}", letters.get(who.index).unwrap_or(&'?'))
    }
}

fn in_words(protocol: &Protocol, state: &State, names: &Letters, action: &Action) -> String {
    let hand = |who: &Who| state.hand(*who);
    let held = |who: &Who| hand(who).map_or_else(String::new, |it| say(&it.place.message));
    match action {
        Action::Accept(who, id) => {
            let amount = protocol.scenario.movement(*id).map_or(0, |it| it.amount);
            let kind = if amount < 0 { "withdrawal" } else { "deposit" };
            format!(
                "{} commits {} as PENDING, a {kind} of {}",
                names.of(*who),
                record(*id),
                amount.unsigned_abs()
            )
        }
        Action::SendUnrecorded(who, id) => {
            format!(
                "{} publishes the command of {}, which is not committed",
                names.of(*who),
                record(*id)
            )
        }
        Action::Claim(who, id) => {
            format!("the redrive of {} claims {}", names.of(*who), record(*id))
        }
        Action::Send(who, message) => format!("{} publishes {}", names.of(*who), say(message)),
        Action::HoldUpSend(who, message) => {
            format!("{} publishes {}: it is held up", names.of(*who), say(message))
        }
        Action::Take(who, place) => {
            let other = if state.is_held(place) { ", whose ack wait has ended" } else { "" };
            format!("{} is delivered {}{other}", names.of(*who), say(&place.message))
        }
        Action::TakeUsedUp(who, place) => {
            format!(
                "{} hears that the deliveries of {} are used up",
                names.of(*who),
                say(&place.message)
            )
        }
        Action::Sweep(who, place) => {
            format!("{} finds {} delivered no more", names.of(*who), say(&place.message))
        }
        Action::Read(who) => format!("{} looks whether it is decided", names.of(*who)),
        Action::PublishUncommitted(who) => {
            format!("{} publishes a result that is not committed", names.of(*who))
        }
        Action::Commit(who) => format!("{} {}", names.of(*who), commit(protocol, state, *who)),
        Action::Publish(who) => {
            format!("{} publishes {}, and has the PubAck", names.of(*who), what(hand(who)))
        }
        Action::HoldUpPublish(who) => {
            format!(
                "{} publishes {}: it is held up, no PubAck comes",
                names.of(*who),
                what(hand(who))
            )
        }
        Action::LetGo(who) => format!("{} {} {}", names.of(*who), end(hand(who)), held(who)),
        Action::LetGoOther(who, place) => format!(
            "{} {} {}, which was lost: that hits {}",
            names.of(*who),
            end(hand(who)),
            held(who),
            say(&place.message)
        ),
        Action::Arrive(publication) => {
            format!("what was held up arrives: {}", published(publication))
        }
        Action::Crash(who) => format!("{} crashes, and starts again", names.of(*who)),
        Action::Wipe(Wipe::Everything) => "the broker loses everything".to_owned(),
        Action::Wipe(Wipe::Stream(name)) => format!("{} is deleted and made again", stream(*name)),
        Action::Wipe(Wipe::Messages(name)) => {
            format!("{} loses its messages, and remembers their ids", stream(*name))
        }
        Action::Forget(name) => format!("the duplicate window of {} ends", stream(*name)),
        Action::LoseAdvisory(place) => {
            format!(
                "the advisory that the deliveries of {} are used up is lost",
                say(&place.message)
            )
        }
        Action::SendStray(message) => format!("a wrong hand publishes {}", say(message)),
    }
}

fn commit(protocol: &Protocol, state: &State, who: Who) -> String {
    let Some(hand) = state.hand(who) else { return String::new() };
    let mut next = state.clone();
    if protocol.apply(&mut next, Action::Commit(who)).is_none() {
        return "can't commit".to_owned();
    }
    match hand.place.message.body {
        Body::Unreadable => "can't read its message".to_owned(),
        Body::Command(id) => match next.ledger.transactions.last() {
            Some(row) if next.ledger != state.ledger => format!("commits: {}", outcome(row)),
            _ if next.first != state.first => format!("refuses {}, and stores nothing", record(id)),
            _ => format!("finds {} decided, or is too late", record(id)),
        },
        Body::Result(told) if next.records != state.records => {
            format!("settles {}: {}", record(told.record), outcome(&told))
        }
        Body::Result(told) => format!("leaves {} as it is", record(told.record)),
    }
}

fn record(id: RecordId) -> String {
    format!("record {}", u32::from(id.0) + 1)
}

fn say(message: &Message) -> String {
    let id = match message.id {
        MessageId::Record(id) => format!(" [{}]", u32::from(id.0) + 1),
        MessageId::Attempt(id, attempt) => format!(" [{}.{attempt}]", u32::from(id.0) + 1),
        MessageId::None => String::new(),
    };
    match message.body {
        Body::Command(of) => format!("the command{id} of {}", record(of)),
        Body::Result(told) => format!("the result{id} of {}", outcome(&told)),
        Body::Unreadable => "a message that can't be read".to_owned(),
    }
}

fn outcome(row: &Transaction) -> String {
    let id = record(row.record);
    match row.outcome {
        Outcome::Applied { balance_after, account_seq } => {
            format!("{id} applied as number {account_seq}, balance {balance_after}")
        }
        Outcome::Refused => format!("{id} refused"),
    }
}

fn published(publication: &Publication) -> String {
    match publication {
        Publication::Message(message) => say(message),
        Publication::DeadLetter(place) => format!("the dead letter of {}", say(&place.message)),
    }
}

fn what(hand: Option<Hand>) -> String {
    match hand.map(|hand| hand.phase) {
        Some(Phase::Publish { what, .. }) => published(&what),
        _ => String::new(),
    }
}

fn end(hand: Option<Hand>) -> &'static str {
    match hand.map(|hand| hand.end) {
        Some(End::Term) => "terms",
        Some(End::Delete) => "deletes",
        Some(End::Ack) | None => "acks",
    }
}

const fn stream(name: StreamName) -> &'static str {
    match name {
        StreamName::Commands => "TRANSACTION",
        StreamName::Results => "TRANSACTION_RESULT",
    }
}

fn stands(state: &State) -> String {
    let mut parts = Vec::new();
    for (id, it) in (0..).map(RecordId).zip(&state.records) {
        parts.push(match it {
            Record::Unasked => continue,
            Record::Pending { .. } => format!("{} is PENDING", record(id)),
            Record::Settled(told) => match told.outcome {
                Outcome::Applied { .. } => format!("{} is SUCCESS", record(id)),
                Outcome::Refused => format!("{} is FAILED", record(id)),
            },
        });
    }
    let rows: Vec<_> = state.ledger.transactions.iter().map(outcome).collect();
    parts.push(if rows.is_empty() {
        "the ledger is empty".to_owned()
    } else {
        format!("the ledger has {}", rows.join(" and "))
    });
    for (projected, balance) in state.projected.iter().zip(&state.ledger.balances) {
        parts.push(format!("balance {}, shown as {}", balance.amount, projected.amount));
    }
    for place in &state.dead_letters {
        parts.push(format!("{} is a dead letter", say(&place.message)));
    }
    parts.join("; ")
}
