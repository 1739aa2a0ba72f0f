//! Applies an action to a state.

use crate::money::{
    action::Action,
    protocol::Protocol,
    replica::Replica,
    rules::Rule,
    state::{State, Stray},
    streams::{Body, Publication},
};

impl Protocol {
    /// Takes one step. `None`: the step is impossible.
    pub(crate) fn apply(&self, state: &mut State, action: Action) -> Option<()> {
        match action {
            Action::Accept(replica, record) => self.accept(state, replica, record),
            Action::SendUnrecorded(replica, record) => self.send_unrecorded(state, replica, record),
            Action::Claim(replica, record) => self.claim(state, replica, record),
            Action::Send(replica, message) => self.send(state, replica, message, false),
            Action::DelaySend(replica, message) => self.send(state, replica, message, true),
            Action::Deliver(replica, id) => self.deliver(state, replica, id),
            Action::ReceiveAdvisory(replica, id) | Action::Sweep(replica, id) => {
                self.dead_letter_exhausted(state, replica, id)
            }
            Action::Read(replica, part) => self.read(state, replica, part),
            Action::PublishUncommitted(replica, part) => {
                self.publish_uncommitted(state, replica, part)
            }
            Action::Commit(replica, part) => self.commit(state, replica, part),
            Action::Publish(replica, publication) => {
                self.publish(state, replica, publication, false)
            }
            Action::DelayPublish(replica, publication) => {
                self.publish(state, replica, publication, true)
            }
            Action::Acknowledge(replica) => self.acknowledge(state, replica, None),
            Action::AcknowledgeOther(replica, other) => {
                self.acknowledge(state, replica, Some(other))
            }
            Action::Arrive(publication) => {
                let index = state.in_flight.iter().position(|other| *other == publication)?;
                state.in_flight.remove(index);
                self.store(state, publication);
                Some(())
            }
            Action::Crash(replica) => {
                state.remaining.crashes = state.remaining.crashes.checked_sub(1)?;
                *state.replica_mut(replica)? = Replica::default();
                Some(())
            }
            Action::Wipe(wipe) => {
                state.remaining.wipes = state.remaining.wipes.checked_sub(1)?;
                state.wipe(wipe);
                Some(())
            }
            Action::ExpireWindow(name) => {
                state.remaining.expired_windows = state.remaining.expired_windows.checked_sub(1)?;
                state.stream_mut(name).remembered_ids.clear();
                Some(())
            }
            Action::LoseAdvisory(id) => self.lose_advisory(state, id),
            Action::LowerLimit => {
                state.remaining.lowered_limits = state.remaining.lowered_limits.checked_sub(1)?;
                state.refuses_bundles = true;
                Some(())
            }
            Action::FindLocked(replica, part) => {
                state.remaining.held_rows = state.remaining.held_rows.checked_sub(1)?;
                if self.keeps(Rule::KeepLocked) {
                    Some(())
                } else {
                    self.fail(state, replica, part)
                }
            }
            Action::Discard(id) => {
                state.remaining.discards = state.remaining.discards.checked_sub(1)?;
                state.discard(&id);
                Some(())
            }
            Action::SendStray(message) => {
                let readable = message.parts.all(|part| part.body != Body::Unreadable);
                *state.strays.get_mut(usize::from(readable))? = Stray::Sent;
                self.store(state, Publication::Message(message));
                Some(())
            }
        }
    }
}
