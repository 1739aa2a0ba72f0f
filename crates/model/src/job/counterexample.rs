//! Describes a path in words. Sorting a state reorders its replicas: here each
//! replica keeps its letter.

use stateright::Model;

use super::{
    action::Action,
    drain::Schedule,
    protocol::Protocol,
    replica::{Phase, Replica},
    report::{Report, ReportId, Status},
    state::State,
    stream::{Body, Message, MessageId, Wipe},
};

/// Describes each step in a line, and then the last state and its drained state in one
/// more line each.
#[must_use]
pub fn describe(protocol: &Protocol, path: &[Action]) -> Vec<String> {
    let Some(mut state) = protocol.init_states().pop() else { return Vec::new() };
    let mut letters: Vec<_> = ('a'..='z').take(state.replicas.len()).collect();
    let mut lines = Vec::new();
    for action in path {
        let before = state.clone();
        if protocol.apply(&mut state, *action).is_none() {
            break;
        }
        lines.push(action_text(&before, &state, &letters, action));
        letters = sorted_letters(&state.replicas, &letters);
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

fn action_text(before: &State, after: &State, letters: &[char], action: &Action) -> String {
    let name = |replica: &usize| format!("replica {}", letters.get(*replica).unwrap_or(&'?'));
    let attempt = |replica: &usize| {
        let attempt = before.replicas.get(*replica).and_then(Replica::attempt);
        attempt.map_or_else(String::new, |attempt| {
            format!("attempt {} of {}", attempt.number, report_name(attempt.report))
        })
    };
    let message = |replica: &usize| {
        let delivery = before.delivery(*replica);
        delivery.map_or_else(String::new, |delivery| message_text(&delivery.id.message))
    };
    // The rows that the step changed.
    let rows = || changed_rows(before, after);
    match action {
        Action::Accept(replica, id) => {
            format!("{} commits {} as QUEUED", name(replica), report_name(*id))
        }
        Action::SendUnrecorded(replica, id) => format!(
            "{} publishes the message of {}, before the row is committed",
            name(replica),
            report_name(*id)
        ),
        Action::Cancel(id) => format!("a client cancels {}: {}", report_name(*id), rows()),
        Action::Redrive(replica, id) => {
            format!("the redrive of {} claims {}", name(replica), report_name(*id))
        }
        Action::Send(replica, message) => {
            format!("{} publishes {}", name(replica), message_text(message))
        }
        Action::DelaySend(replica, message) => {
            format!("{} publishes {}: it is delayed", name(replica), message_text(message))
        }
        Action::Arrive(message) => {
            format!("a delayed publication arrives: {}", message_text(message))
        }
        Action::Deliver(replica, id) => {
            let other =
                if before.is_in_progress(id) { ", after another ack wait ended" } else { "" };
            format!("{} receives {}{other}", name(replica), message_text(&id.message))
        }
        Action::WorkOff(id) => {
            format!("{} is at max_deliver: it is settled and deleted", message_text(&id.message))
        }
        Action::SettleIdle(id) => {
            format!("reports are due and none runs: {} is settled", message_text(&id.message))
        }
        Action::Check(replica) => format!("{} sees that no report runs", name(replica)),
        Action::Claim(replica) => format!("{} {}", name(replica), claim_text(after, *replica)),
        Action::Store(replica) => {
            format!("{} stores the files of {}", name(replica), attempt(replica))
        }
        Action::Commit(replica) => {
            format!("{} commits {}: {}", name(replica), attempt(replica), rows())
        }
        Action::Fail(replica) => {
            format!("{} fails at {}: {}", name(replica), attempt(replica), rows())
        }
        Action::ObserveCancel(replica) => {
            format!("{} ends the cancelled {}: {}", name(replica), attempt(replica), rows())
        }
        Action::Abandon(replica) => {
            format!("{} finds the lease of {} lost", name(replica), attempt(replica))
        }
        Action::Stop(replica) => format!("{} gets SIGTERM: {}", name(replica), rows()),
        Action::DeadLetter(replica) => {
            format!("{} dead-letters {}", name(replica), message(replica))
        }
        Action::Requeue(replica) => {
            format!("{} puts a copy of {} into the queue", name(replica), message(replica))
        }
        Action::Acknowledge(replica) => {
            format!("{} acknowledges {}", name(replica), message(replica))
        }
        Action::AcknowledgeOther(replica, other) => format!(
            "{} acknowledges {}, which was lost: this removes {}",
            name(replica),
            message(replica),
            message_text(&other.message)
        ),
        Action::EndDelay(id) => format!("{} is due again", report_name(*id)),
        Action::EndLease(id) => format!("the lease of {} ends", report_name(*id)),
        Action::Expire(id) => format!("{} counts as lost: {}", report_name(*id), rows()),
        Action::InsertAlert(replica, id) => {
            format!("{} inserts the alert of {}", name(replica), report_name(*id))
        }
        Action::DeadLetterReport(id) => {
            format!("the dead letter of {} is published", report_name(*id))
        }
        Action::TakeAlert(id) => format!("the receiver takes the alert of {}", report_name(*id)),
        Action::RefuseAlert(id) => {
            format!("the receiver refuses the alert of {}", report_name(*id))
        }
        Action::Delete(file) => format!(
            "the clean-up deletes the files of attempt {} of {}",
            file.written_by,
            report_name(file.report)
        ),
        Action::Crash(replica) => format!("{} crashes and starts again", name(replica)),
        Action::Wipe(Wipe::Everything) => "the broker loses the stream".to_owned(),
        Action::Wipe(Wipe::Messages) => {
            "the stream loses its messages, but not their ids".to_owned()
        }
        Action::SetClockBack => "the clock of the broker goes back".to_owned(),
        Action::SendStray => "a stray publisher sends a message".to_owned(),
    }
}

fn claim_text(after: &State, replica: usize) -> String {
    match after.delivery(replica).map(|delivery| delivery.phase) {
        Some(Phase::Working(attempt)) => {
            format!("claims attempt {} of {}", attempt.number, report_name(attempt.report))
        }
        Some(Phase::Publish) => "finds no report of its message".to_owned(),
        _ => "finds no due report".to_owned(),
    }
}

fn changed_rows(before: &State, after: &State) -> String {
    let rows = (0..).map(ReportId).zip(before.reports.iter().zip(&after.reports));
    let changed: Vec<_> = rows
        .filter(|(_, (before, after))| before != after)
        .map(|(id, (_, after))| row_text(id, after))
        .collect();
    if changed.is_empty() { "no row changes".to_owned() } else { changed.join(", ") }
}

fn report_name(id: ReportId) -> String {
    format!("report {}", u32::from(id.0) + 1)
}

fn message_text(message: &Message) -> String {
    match (message.body, message.id) {
        (Body::Wake(report), MessageId::Send(_, send)) => {
            format!("message {send} of the redrive for {}", report_name(report))
        }
        (Body::Wake(report), _) => format!("the message of {}", report_name(report)),
        (Body::Stray, _) => "the stray message".to_owned(),
    }
}

fn row_text(id: ReportId, row: &Report) -> String {
    let name = report_name(id);
    let status = match row.status {
        Status::NotRequested => return format!("{name} is not requested"),
        Status::Queued => "QUEUED",
        Status::Running => "RUNNING",
        Status::Succeeded => "SUCCEEDED",
        Status::Failed => "FAILED",
        Status::Cancelled => "CANCELLED",
    };
    let cancel =
        if row.cancel_requested && row.status.is_open() { ", to be cancelled" } else { "" };
    let alert = match row.alert {
        Some(alert) if alert.taken => ", alert taken",
        Some(_) => ", alert open",
        None => "",
    };
    format!(
        "{name} is {status} (attempt {}, failures {}{cancel}{alert})",
        row.attempt, row.failures
    )
}

fn state_text(state: &State) -> String {
    let ids = (0..).map(ReportId);
    let mut parts: Vec<_> = ids.zip(&state.reports).map(|(id, row)| row_text(id, row)).collect();
    for file in &state.files {
        parts.push(format!("files of attempt {} of {}", file.written_by, report_name(file.report)));
    }
    for id in &state.dead_letters {
        parts.push(format!("{} is dead-lettered", message_text(&id.message)));
    }
    parts.join("; ")
}
