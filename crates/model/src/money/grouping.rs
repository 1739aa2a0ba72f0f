//! The messages that parts can form. `dispatch` and the worker may group their parts
//! in any way that the rules allow.

use crate::money::{
    databases::RecordId,
    protocol::Protocol,
    rules::Rule,
    state::State,
    streams::{Body, Message, MessageId, Part},
};

impl Protocol {
    /// The messages that can be published next from these parts. Those that the broker
    /// refuses are taken apart.
    pub(crate) fn sendable(&self, state: &State, parts: &[Part]) -> Vec<Message> {
        let mut messages = self.messages(parts);
        if self.keeps(Rule::TakeApart) {
            messages.retain(|message| !self.is_refused(state, message));
        }
        messages
    }

    /// Every message that can be published next from these parts, the largest first.
    fn messages(&self, parts: &[Part]) -> Vec<Message> {
        if let [part] = parts {
            return vec![Message::of([*part])];
        }
        let subsets = 1..1_u32.checked_shl(parts.len().try_into().unwrap_or(0)).unwrap_or(0);
        let mut messages = Vec::new();
        for size in (1..=self.scenario.max_parts).rev() {
            for subset in subsets.clone().filter(|subset| subset.count_ones() == size) {
                let chosen = (0..).zip(parts).filter(|(index, _)| subset >> index & 1 == 1);
                let message = Message::of(chosen.map(|(_, part)| *part));
                if self.may_travel(&message) {
                    messages.push(message);
                }
            }
        }
        messages
    }

    /// Whether the parts may share a message: they have one subject, no record twice,
    /// and none of them has to travel alone.
    fn may_travel(&self, message: &Message) -> bool {
        if !message.is_bundle() {
            return true;
        }
        let parts = || message.parts.iter().enumerate();
        let subject = |part: Part| record(part).map(|record| self.is_withdrawal(record));
        let first = message.parts.get(0).and_then(subject);
        parts().all(|(index, part)| {
            let mut others = parts().filter(|(other, _)| *other != index);
            subject(part) == first
                && !self.travels_alone(part)
                && !others.any(|(_, other)| record(other) == record(part))
        })
    }

    /// Whether this is the command of a record that was redriven before.
    fn travels_alone(&self, part: Part) -> bool {
        self.keeps(Rule::RedriveAlone)
            && matches!(part.body, Body::Command(_))
            && matches!(part.id, MessageId::Attempt(_, attempt) if attempt > 1)
    }

    fn is_withdrawal(&self, record: RecordId) -> bool {
        self.scenario.request(record).is_some_and(|request| request.amount < 0)
    }
}

fn record(part: Part) -> Option<RecordId> {
    match part.body {
        Body::Command(record) => Some(record),
        Body::Result(result) => Some(result.record),
        Body::Unreadable => None,
    }
}
