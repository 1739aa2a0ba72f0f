//! The faults that can happen next, within the scenario's bounds.

use super::{
    action::Action,
    protocol::Protocol,
    replica::{Phase, Replica},
    report::Status,
    rules::Rule,
    state::{State, Stray},
    steps::distinct,
    stream::{StoredMessage, Wipe},
};

impl Protocol {
    pub(crate) fn faults(&self, state: &State, actions: &mut Vec<Action>) {
        let remaining = &state.remaining;
        actions.extend(state.in_flight.iter().map(|message| Action::Arrive(*message)));
        for (index, replica) in distinct(state) {
            self.replica_faults(state, index, replica, actions);
        }
        for id in self.scenario.ids() {
            let Some(row) = state.report(id) else { continue };
            if remaining.cancels > 0 && row.status.is_open() && !row.cancel_requested {
                actions.push(Action::Cancel(id));
            }
            let has_worker = state.attempts().any(|attempt| {
                (attempt.report, attempt.number, attempt.frozen) == (id, row.attempt, false)
            });
            // A worker with a heartbeat loses its lease only if it is frozen.
            if remaining.freezes > 0 && row.is_leased() && has_worker && self.keeps(Rule::Heartbeat)
            {
                actions.push(Action::EndLease(id));
            }
            if remaining.refusals > 0
                && row.status == Status::Failed
                && row.alert.is_some_and(|alert| !alert.taken && !alert.refused)
            {
                actions.push(Action::RefuseAlert(id));
            }
        }
        if remaining.wipes > 0 {
            actions.extend([Wipe::Everything, Wipe::Messages].map(Action::Wipe));
        }
        let is_out = |message: &StoredMessage| message.deliveries > 0 && !message.held;
        if remaining.clock_jumps > 0 && state.stream.messages.iter().any(is_out) {
            actions.push(Action::SetClockBack);
        }
        if self.scenario.stray && state.stray == Stray::Unsent {
            actions.push(Action::SendStray);
        }
    }

    fn replica_faults(
        &self,
        state: &State,
        index: usize,
        replica: &Replica,
        actions: &mut Vec<Action>,
    ) {
        let remaining = &state.remaining;
        if remaining.crashes > 0 && *replica != Replica::default() {
            actions.push(Action::Crash(index));
        }
        let phase = replica.delivery.map(|delivery| delivery.phase);
        let is_working = matches!(phase, Some(Phase::Working(_)));
        if remaining.failures > 0 && is_working {
            actions.push(Action::Fail(index));
        }
        if remaining.stops > 0 && (is_working || phase == Some(Phase::Delivered)) {
            actions.push(Action::Stop(index));
        }
        if remaining.refused_letters > 0 && phase == Some(Phase::Publish) {
            actions.push(Action::Requeue(index));
        }
        if remaining.delayed_publications > 0 {
            let sends = replica.outgoing.iter();
            actions.extend(sends.map(|message| Action::DelaySend(index, *message)));
        }
        if remaining.slow_workers > 0
            && replica.delivery.is_none()
            && self.keeps(Rule::KeepInProgress)
        {
            self.deliveries(state, index, true, actions);
        }
    }
}
