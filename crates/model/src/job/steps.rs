//! The possible steps of the processes, without faults. Faults are separate, in
//! [`super::faults`], because [`super::drain`] does without them.

use super::{
    action::Action,
    protocol::Protocol,
    replica::{Delivery, Phase, Replica},
    report::{Report, ReportId, Status},
    rules::Rule,
    state::State,
    stream::StoredMessage,
};

impl Protocol {
    /// The steps of all processes, except new requests and the redrive. Also the ends
    /// of leases.
    pub(crate) fn steps(&self, state: &State, actions: &mut Vec<Action>) {
        for (index, replica) in distinct(state) {
            actions.extend(replica.uncommitted.iter().map(|id| Action::Accept(index, *id)));
            actions.extend(replica.alerts.iter().map(|id| Action::InsertAlert(index, *id)));
            actions.extend(replica.outgoing.iter().map(|message| Action::Send(index, *message)));
            match &replica.delivery {
                Some(delivery) => self.worker_steps(state, index, delivery, actions),
                None => self.deliveries(state, index, false, actions),
            }
        }
        if self.keeps(Rule::WorkOffUsedUp) {
            let messages =
                state.stream.messages.iter().filter(|message| {
                    self.is_exhausted(message) && !state.is_in_progress(&message.id)
                });
            actions.extend(messages.map(|message| Action::WorkOff(message.id)));
        }
        if self.keeps(Rule::SettleIdle) && state.is_idle() {
            let held = state.stream.messages.iter().filter(|message| message.held);
            actions.extend(held.map(|message| Action::SettleIdle(message.id)));
        }
        for id in self.scenario.ids() {
            self.report_steps(state, id, actions);
        }
        if self.keeps(Rule::CleanUp) {
            let unwanted = state.files.iter().filter(|file| !self.is_wanted(state, file));
            actions.extend(unwanted.map(|file| Action::Delete(*file)));
        }
    }

    fn report_steps(&self, state: &State, id: ReportId, actions: &mut Vec<Action>) {
        let Some(row) = state.report(id) else { return };
        let has_worker = state.attempts().any(|attempt| {
            (attempt.report, attempt.number, attempt.frozen) == (id, row.attempt, false)
        });
        if row.is_leased() && (!has_worker || !self.keeps(Rule::Heartbeat)) {
            actions.push(Action::EndLease(id));
        }
        if self.keeps(Rule::ExpireLost) && self.is_lost(state, id) {
            actions.push(Action::Expire(id));
        }
        if let Some(alert) = row.alert {
            if !alert.dead_lettered {
                actions.push(Action::DeadLetterReport(id));
            }
            if !alert.taken && (!alert.refused || self.keeps(Rule::RepeatAlert)) {
                actions.push(Action::TakeAlert(id));
            }
        }
    }

    /// Whether the attempt of a report counts as lost.
    pub(crate) fn is_lost(&self, state: &State, id: ReportId) -> bool {
        state.report(id).is_some_and(|row| {
            row.status == Status::Running && (row.lease_over || !self.keeps(Rule::WaitForLease))
        })
    }

    /// The ends of the delays between attempts.
    pub(crate) fn delays(&self, state: &State, actions: &mut Vec<Action>) {
        let delayed = |id: &ReportId| {
            state.report(*id).is_some_and(|row| row.status == Status::Queued && !row.due)
        };
        actions.extend(self.scenario.ids().filter(delayed).map(Action::EndDelay));
    }

    fn worker_steps(
        &self,
        state: &State,
        replica: usize,
        delivery: &Delivery,
        actions: &mut Vec<Action>,
    ) {
        let acknowledged = delivery.acknowledged_early;
        match delivery.phase {
            Phase::Delivered if !acknowledged && !self.keeps(Rule::CommitBeforeAck) => {
                self.acknowledgements(state, replica, delivery, actions);
            }
            Phase::Delivered if !self.may_claim(state) => {}
            Phase::Delivered if !self.keeps(Rule::ClaimUnderLock) => {
                actions.push(Action::Check(replica));
            }
            Phase::Delivered | Phase::Checked => actions.push(Action::Claim(replica)),
            Phase::Working(attempt) => {
                actions.push(if attempt.stored {
                    Action::Commit(replica)
                } else {
                    Action::Store(replica)
                });
                let row = state.report(attempt.report);
                if attempt.frozen {
                    actions.push(Action::Abandon(replica));
                } else if row.is_some_and(|row: Report| {
                    row.cancel_requested
                        && (row.status, row.attempt) == (Status::Running, attempt.number)
                }) {
                    actions.push(Action::ObserveCancel(replica));
                }
            }
            Phase::Publish if !acknowledged && !self.keeps(Rule::DeadLetterBeforeTerm) => {
                self.acknowledgements(state, replica, delivery, actions);
            }
            Phase::Publish => actions.push(Action::DeadLetter(replica)),
            Phase::Acknowledge => self.acknowledgements(state, replica, delivery, actions),
        }
    }

    fn acknowledgements(
        &self,
        state: &State,
        replica: usize,
        delivery: &Delivery,
        actions: &mut Vec<Action>,
    ) {
        actions.push(Action::Acknowledge(replica));
        if delivery.stale && self.scenario.stale_acks {
            // A consumer knows its delivered messages only.
            let delivered = state.stream.messages.iter().filter(|message| message.deliveries > 0);
            actions.extend(delivered.map(|other| Action::AcknowledgeOther(replica, other.id)));
        }
    }

    /// Deliveries to this replica. With `in_progress`, only of messages with a worker;
    /// otherwise only of the others.
    pub(crate) fn deliveries(
        &self,
        state: &State,
        replica: usize,
        in_progress: bool,
        actions: &mut Vec<Action>,
    ) {
        let messages = &state.stream.messages;
        let is_pending =
            |message: &&StoredMessage| state.is_ack_pending(message, self.scenario.max_deliver);
        let is_full =
            self.keeps(Rule::OneDelivery) && messages.iter().any(|message| is_pending(&message));
        for message in messages {
            let has_worker = state.is_in_progress(&message.id);
            let expected = has_worker == in_progress || !self.keeps(Rule::KeepInProgress);
            if expected
                && (message.deliveries > 0 || !is_full)
                && message.delayed_for.is_none()
                && !message.held
                && !self.is_exhausted(message)
            {
                actions.push(Action::Deliver(replica, message.id));
            }
        }
    }

    /// Messages of the redrive for due reports. The system counts messages first. As
    /// the count can be outdated, a message is possible for each due report.
    pub(crate) fn redrives(&self, state: &State, actions: &mut Vec<Action>) {
        if !self.keeps(Rule::Redrive) {
            return;
        }
        let is_due = |id: &ReportId| state.report(*id).is_some_and(|row| row.is_due());
        for id in self.scenario.ids().filter(is_due) {
            actions.extend(distinct(state).map(|(index, _)| Action::Redrive(index, id)));
        }
    }

    /// The next request.
    pub(crate) fn requests(&self, state: &State, actions: &mut Vec<Action>) {
        let requested = |id: &ReportId| {
            state.report(*id).is_some_and(|row| row.status != Status::NotRequested)
                || state.replicas.iter().any(|replica| replica.uncommitted.contains(id))
        };
        let Some(id) = self.scenario.ids().find(|id| !requested(id)) else { return };
        let action = |index| {
            if self.keeps(Rule::RowBeforeMessage) {
                Action::Accept(index, id)
            } else {
                Action::SendUnrecorded(index, id)
            }
        };
        actions.extend(distinct(state).map(|(index, _)| action(index)));
    }
}

/// The replicas with their positions. Equal replicas have the same steps, so only the
/// first of them counts.
pub(crate) fn distinct(state: &State) -> impl Iterator<Item = (usize, &Replica)> {
    let previous = std::iter::once(None).chain(state.replicas.iter().map(Some));
    let replicas = state.replicas.iter().enumerate().zip(previous);
    replicas
        .filter(|((_, replica), previous)| *previous != Some(*replica))
        .map(|(replica, _)| replica)
}
