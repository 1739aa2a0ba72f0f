//! Everything that can happen next. What a process does by itself and what
//! goes wrong are told apart: [`crate::drain`] takes only the former.

use crate::{
    broker::{Body, Message, Place, Publication, Stored, StreamName, Wipe},
    protocol::Protocol,
    rules::Rule,
    state::{End, Hand, Phase, Record, RecordId, Service, State, Who},
};

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A request is accepted: the PENDING record is committed.
    Accept(Who, RecordId),
    /// The command goes out while the record is not committed.
    SendUnrecorded(Who, RecordId),
    /// The redrive claims a PENDING record.
    Claim(Who, RecordId),
    /// `dispatch` or the redrive publishes a command.
    Send(Who, Message),
    /// A worker fetches a message.
    Take(Who, Place),
    /// A worker takes the advisory about a message whose deliveries are used up.
    TakeUsedUp(Who, Place),
    /// The sweep of a worker's queue finds a message that is delivered no more.
    Sweep(Who, Place),
    /// The account and what was decided are read, without the lock.
    Read(Who),
    /// The result goes out while the outcome is not committed.
    PublishUncommitted(Who),
    /// The one transaction of a worker: decide, or settle.
    Commit(Who),
    /// What the commit asks for is published, and has its PubAck.
    Publish(Who),
    /// The message is let go: acked, termed, or deleted.
    LetGo(Who),
    /// An ack for a message that is no more lets go of this one.
    LetGoOther(Who, Place),
    /// A publication that was held up arrives.
    Arrive(Publication),
    /// A command that was to be published is held up.
    HoldUpSend(Who, Message),
    /// What a worker publishes is held up: no PubAck comes.
    HoldUpPublish(Who),
    /// A replica crashes, and starts again.
    Crash(Who),
    /// The broker loses something.
    Wipe(Wipe),
    /// The duplicate window of a stream ends.
    Forget(StreamName),
    /// The advisory about a message whose deliveries are used up is lost.
    LoseAdvisory(Place),
    /// A message from a wrong hand is stored.
    SendStray(Message),
}

impl Protocol {
    /// What the processes do by themselves, the redrive's turns and new
    /// requests aside.
    pub(crate) fn steps(&self, state: &State, actions: &mut Vec<Action>) {
        for service in [Service::Account, Service::Transaction] {
            let mut before = None;
            for (index, replica) in state.replicas(service).iter().enumerate() {
                // What two equal replicas could do is the same.
                if before == Some(replica) {
                    continue;
                }
                before = Some(replica);
                let who = Who { service, index };
                actions.extend(replica.uncommitted.iter().map(|id| Action::Accept(who, *id)));
                actions.extend(replica.outgoing.iter().map(|it| Action::Send(who, *it)));
                match &replica.hand {
                    Some(hand) => self.steps_in_hand(state, who, hand, actions),
                    None => self.deliveries(state, who, false, actions),
                }
            }
        }
    }

    fn steps_in_hand(&self, state: &State, who: Who, hand: &Hand, actions: &mut Vec<Action>) {
        match hand.phase {
            Phase::Taken if !hand.gone && !self.keep(Rule::CommitBeforeAck) => {
                self.let_go(state, who, hand, actions);
            }
            Phase::Taken if self.reads_first(hand) => actions.push(Action::Read(who)),
            Phase::Taken if self.publishes_first(hand) => {
                actions.push(Action::PublishUncommitted(who));
            }
            Phase::Taken | Phase::Read { .. } | Phase::Uncommitted => {
                actions.push(Action::Commit(who));
                if hand.phase == Phase::Taken && self.may_be_usual(state, hand) {
                    actions.push(Action::Read(who));
                }
            }
            Phase::Publish { what: Publication::DeadLetter(_), .. }
                if !hand.gone && !self.keep(Rule::DeadLetterBeforeTerm) =>
            {
                self.let_go(state, who, hand, actions);
            }
            Phase::Publish { .. } => actions.push(Action::Publish(who)),
            Phase::LetGo { .. } => self.let_go(state, who, hand, actions),
        }
    }

    fn let_go(&self, state: &State, who: Who, hand: &Hand, actions: &mut Vec<Action>) {
        actions.push(Action::LetGo(who));
        if hand.stale && self.scenario.stale_acks {
            let stream = state.stream(hand.place.stream);
            // The consumer knows only what it delivered, the stream all that it stores.
            let known = |deliveries| deliveries > 0 || hand.end == End::Delete;
            let others = stream.stored.iter().filter(|it| known(it.deliveries));
            actions.extend(others.map(|it| Action::LetGoOther(who, it.place)));
        }
    }

    fn reads_first(&self, hand: &Hand) -> bool {
        !self.keep(Rule::LockAccounts) && matches!(hand.place.message.body, Body::Command(_))
    }

    /// The statement for what is new and possible goes on only if the record
    /// was not decided when it began.
    fn may_be_usual(&self, state: &State, hand: &Hand) -> bool {
        matches!(hand.place.message.body, Body::Command(record)
            if self.known(state, record).is_none())
    }

    fn publishes_first(&self, hand: &Hand) -> bool {
        !self.keep(Rule::OutcomeBeforeResult) && matches!(hand.place.message.body, Body::Command(_))
    }

    /// Deliveries of messages that nobody works on, or, with `held`, of those
    /// that somebody does.
    pub(crate) fn deliveries(
        &self,
        state: &State,
        who: Who,
        held: bool,
        actions: &mut Vec<Action>,
    ) {
        for stored in &state.stream(who.service.consumes()).stored {
            if stored.unheard || state.is_held(&stored.place) != held {
                continue;
            }
            if !self.is_used_up(stored) {
                actions.push(Action::Take(who, stored.place));
            } else if self.keep(Rule::WorkOffUsedUp) {
                actions.push(Action::TakeUsedUp(who, stored.place));
            }
        }
    }

    pub(crate) fn is_used_up(&self, stored: &Stored) -> bool {
        stored.deliveries >= self.scenario.max_deliver
    }

    /// What a round of the sweep finds, at any time: what is delivered no more
    /// and is still there, advisory or not; also from a slow worker's hand. That
    /// it is not settled can be told in a work queue only, which
    /// `TRANSACTION_RESULT` is not: that one keeps what is settled.
    pub(crate) fn sweeps(&self, state: &State, actions: &mut Vec<Action>) {
        if !self.keep(Rule::Sweep) {
            return;
        }
        let given_up =
            |it: &&Stored| self.is_used_up(it) && (state.left.slow > 0 || !state.is_awaited(it));
        for stored in state.commands.stored.iter().filter(given_up) {
            let action = |who| Action::Sweep(who, stored.place);
            self.each(state, Service::Transaction, action, actions);
        }
    }

    /// The redrive's next turns.
    pub(crate) fn claims(&self, state: &State, actions: &mut Vec<Action>) {
        let messages = state.commands.stored.len();
        let behind = self.scenario.backlog.is_some_and(|most| messages > most);
        if behind || !self.keep(Rule::Redrive) {
            return;
        }
        for record in self.scenario.records(None) {
            if matches!(state.record(record), Some(Record::Pending { .. })) {
                self.each(state, Service::Account, |who| Action::Claim(who, record), actions);
            }
        }
    }

    /// New requests: clients ask one after the other. (A record that is accepted
    /// and left alone is like one that is not accepted yet, so that no order is
    /// lost.)
    pub(crate) fn requests(&self, state: &State, actions: &mut Vec<Action>) {
        let asked = |id: &RecordId| {
            let unasked = state.record(*id) == Some(Record::Unasked);
            !unasked || state.account.iter().any(|replica| replica.uncommitted.contains(id))
        };
        let Some(record) = self.scenario.records(None).find(|id| !asked(id)) else { return };
        let action = |who| {
            if self.keep(Rule::RecordBeforeCommand) {
                Action::Accept(who, record)
            } else {
                Action::SendUnrecorded(who, record)
            }
        };
        self.each(state, Service::Account, action, actions);
    }

    /// The same step for each replica of a service; equal ones count once.
    fn each(
        &self,
        state: &State,
        service: Service,
        action: impl Fn(Who) -> Action,
        actions: &mut Vec<Action>,
    ) {
        let mut before = None;
        for (index, replica) in state.replicas(service).iter().enumerate() {
            if before != Some(replica) {
                actions.push(action(Who { service, index }));
            }
            before = Some(replica);
        }
    }
}
