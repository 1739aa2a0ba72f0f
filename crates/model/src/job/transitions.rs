//! Applies an action to a state.

use super::{
    action::Action,
    attempts::{Outcome, set_phase},
    protocol::Protocol,
    replica::{Attempt, Phase, Replica},
    report::{Alert, Report, ReportId},
    rules::Rule,
    state::{State, Stray},
    stream::{Body, Message, MessageId},
};

impl Protocol {
    /// Takes one step. `None`: the step is impossible.
    pub(crate) fn apply(&self, state: &mut State, action: Action) -> Option<()> {
        self.step(state, action)?;
        // The work on a message with an early acknowledgement ends without another one.
        for replica in &mut state.replicas {
            if replica.delivery.is_some_and(|delivery| {
                delivery.acknowledged_early && delivery.phase == Phase::Acknowledge
            }) {
                replica.delivery = None;
            }
        }
        Some(())
    }

    fn step(&self, state: &mut State, action: Action) -> Option<()> {
        match action {
            Action::Accept(replica, id) => self.accept(state, replica, id),
            Action::SendUnrecorded(replica, id) => self.send_unrecorded(state, replica, id),
            Action::Cancel(id) => self.cancel(state, id),
            Action::Redrive(replica, id) => self.redrive(state, replica, id),
            Action::Send(replica, message) => self.send(state, replica, message, false),
            Action::DelaySend(replica, message) => self.send(state, replica, message, true),
            Action::Arrive(message) => {
                let index = state.in_flight.iter().position(|other| *other == message)?;
                state.in_flight.remove(index);
                state.store_message(message);
                Some(())
            }
            Action::Deliver(replica, id) => self.deliver(state, replica, id),
            Action::WorkOff(id) | Action::SettleIdle(id) => self.work_off(state, id),
            Action::SetClockBack => self.set_clock_back(state),
            Action::Check(replica) => set_phase(state, replica, Phase::Checked),
            Action::Claim(replica) => self.claim(state, replica),
            Action::Store(replica) => self.store(state, replica),
            Action::Commit(replica) => self.commit(state, replica),
            Action::Fail(replica) => {
                state.remaining.failures = state.remaining.failures.checked_sub(1)?;
                self.end(state, replica, Outcome::Failed)
            }
            Action::ObserveCancel(replica) => self.end(state, replica, Outcome::Cancelled),
            Action::Abandon(replica) => set_phase(state, replica, Phase::Acknowledge),
            Action::Stop(replica) => self.stop(state, replica),
            Action::DeadLetter(replica) => {
                state.store_dead_letter(state.delivery(replica)?.id);
                set_phase(state, replica, Phase::Acknowledge)
            }
            Action::Requeue(replica) => {
                state.remaining.refused_letters = state.remaining.refused_letters.checked_sub(1)?;
                if self.keeps(Rule::RequeueUnlettered) {
                    state.store_message(state.delivery(replica)?.id.message);
                }
                set_phase(state, replica, Phase::Acknowledge)
            }
            Action::Acknowledge(replica) => self.acknowledge(state, replica, None),
            Action::AcknowledgeOther(replica, other) => {
                self.acknowledge(state, replica, Some(other))
            }
            Action::EndDelay(id) => end_delay(state, id),
            Action::EndLease(id) => self.end_lease(state, id),
            Action::Expire(id) => self.expire(state, id),
            Action::InsertAlert(replica, id) => self.insert_alert(state, replica, id),
            Action::DeadLetterReport(id) => {
                set_alert(state, id, |alert| alert.dead_lettered = true)
            }
            Action::TakeAlert(id) => set_alert(state, id, |alert| alert.taken = true),
            Action::RefuseAlert(id) => {
                state.remaining.refusals = state.remaining.refusals.checked_sub(1)?;
                set_alert(state, id, |alert| alert.refused = true)
            }
            Action::Delete(file) => {
                state.files.retain(|other| *other != file);
                Some(())
            }
            Action::Crash(replica) => {
                state.remaining.crashes = state.remaining.crashes.checked_sub(1)?;
                *state.replicas.get_mut(replica)? = Replica::default();
                Some(())
            }
            Action::Wipe(wipe) => {
                state.remaining.wipes = state.remaining.wipes.checked_sub(1)?;
                state.wipe(wipe);
                Some(())
            }
            Action::SendStray => {
                state.stray = Stray::Sent;
                state.store_message(Message { id: MessageId::None, body: Body::Stray });
                Some(())
            }
        }
    }

    /// A running attempt is handed over. A message without an attempt is handed back.
    fn stop(&self, state: &mut State, replica: usize) -> Option<()> {
        state.remaining.stops = state.remaining.stops.checked_sub(1)?;
        if state.replicas.get(replica)?.attempt().is_some() {
            return self.end(state, replica, Outcome::HandedOver);
        }
        let delivery = state.replicas.get_mut(replica)?.delivery.take()?;
        // A nak does not depend on a clock.
        if let Some(message) = state.stream.get_mut(&delivery.id) {
            message.held = false;
        }
        Some(())
    }

    /// The lease of a report ends. Its worker was frozen, if it has one and keeps a
    /// heartbeat.
    fn end_lease(&self, state: &mut State, id: ReportId) -> Option<()> {
        let row = state.report(id).filter(Report::is_leased)?;
        state.write(id, Report { lease_over: true, ..row })?;
        let owner = |attempt: &Attempt| (attempt.report, attempt.number) == (id, row.attempt);
        if !self.keeps(Rule::Heartbeat) {
            return Some(());
        }
        for delivery in state.replicas.iter_mut().filter_map(|replica| replica.delivery.as_mut()) {
            if let Phase::Working(attempt) = &mut delivery.phase
                && owner(attempt)
                && !attempt.frozen
            {
                state.remaining.freezes = state.remaining.freezes.checked_sub(1)?;
                attempt.frozen = true;
            }
        }
        Some(())
    }
}

fn end_delay(state: &mut State, id: ReportId) -> Option<()> {
    let row = state.report(id)?;
    state.write(id, Report { due: true, ..row })?;
    let messages = state.stream.messages.iter_mut();
    for message in messages.filter(|message| message.delayed_for == Some(id)) {
        message.delayed_for = None;
    }
    Some(())
}

fn set_alert(state: &mut State, id: ReportId, set: impl FnOnce(&mut Alert)) -> Option<()> {
    set(state.report_mut(id)?.alert.as_mut()?);
    Some(())
}
