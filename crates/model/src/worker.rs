//! The loop that both services have: take a message, commit, publish and await
//! the PubAck, let go.

use crate::{
    broker::{Body, Place, Publication},
    protocol::Protocol,
    rules::Rule,
    state::{End, Hand, Phase, State, Who},
};

impl Protocol {
    /// A delivery. Where the message is still in another hand, that one's ack
    /// wait has ended.
    pub(crate) fn take(&self, state: &mut State, who: Who, place: Place) -> Option<()> {
        self.pay_for_held(state, &place)?;
        state.stream_mut(place.stream).get_mut(&place)?.deliveries += 1;
        self.hold(state, who, place, Phase::Taken, End::Ack)
    }

    /// A message whose deliveries are used up becomes a dead letter: by its
    /// advisory, which is captured and comes until it is worked off, or by the
    /// sweep, which comes again and again.
    pub(crate) fn bury(&self, state: &mut State, who: Who, place: Place) -> Option<()> {
        self.pay_for_held(state, &place)?;
        let what = Publication::DeadLetter(place);
        self.hold(state, who, place, Phase::Publish { what, again: false }, End::Delete)
    }

    fn pay_for_held(&self, state: &mut State, place: &Place) -> Option<()> {
        let stored = state.stream(place.stream).stored.iter().find(|it| it.place == *place)?;
        if state.is_awaited(stored) {
            state.left.slow = state.left.slow.checked_sub(1)?;
        }
        Some(())
    }

    fn hold(
        &self,
        state: &mut State,
        who: Who,
        place: Place,
        phase: Phase,
        end: End,
    ) -> Option<()> {
        let hand = &mut state.replica_mut(who)?.hand;
        if hand.is_some() {
            return None;
        }
        *hand = Some(Hand { place, stale: false, gone: false, phase, end });
        Some(())
    }

    /// What the message is decides who has to commit.
    pub(crate) fn commit(&self, state: &mut State, who: Who) -> Option<()> {
        let place = state.hand(who)?.place;
        match place.message.body {
            Body::Command(record) => self.decide(state, who, record)?,
            Body::Result(told) => self.settle(state, who, told)?,
            Body::Unreadable => {
                let hand = state.hand_mut(who)?;
                if self.keep(Rule::DeadLetter) {
                    let what = Publication::DeadLetter(place);
                    hand.phase = Phase::Publish { what, again: false };
                    hand.end = End::Term;
                } else {
                    hand.phase = Phase::LetGo { again: true };
                }
            }
        }
        self.end_if_gone(state, who)
    }

    /// Published, and the PubAck is here.
    pub(crate) fn publish(&self, state: &mut State, who: Who) -> Option<()> {
        let Phase::Publish { what, again } = state.hand(who)?.phase else { return None };
        state.store(what);
        state.hand_mut(who)?.phase = Phase::LetGo { again };
        self.end_if_gone(state, who)
    }

    /// Published, and no PubAck comes: once more, unless nobody waits for it.
    pub(crate) fn hold_up_publish(&self, state: &mut State, who: Who) -> Option<()> {
        let Phase::Publish { what, again } = state.hand(who)?.phase else { return None };
        self.hand_to_network(state, what, true)?;
        if !self.keep(Rule::AwaitPubAck) {
            state.hand_mut(who)?.phase = Phase::LetGo { again };
        }
        self.end_if_gone(state, who)
    }

    /// A message that was let go before its end has no other end.
    fn end_if_gone(&self, state: &mut State, who: Who) -> Option<()> {
        let replica = state.replica_mut(who)?;
        if replica.hand.is_some_and(|it| it.gone && matches!(it.phase, Phase::LetGo { .. })) {
            replica.hand = None;
        }
        Some(())
    }

    pub(crate) fn hand_to_network(
        &self,
        state: &mut State,
        publication: Publication,
        held_up: bool,
    ) -> Option<()> {
        if held_up {
            state.left.held_up = state.left.held_up.checked_sub(1)?;
            state.in_flight.push(publication);
        } else {
            state.store(publication);
        }
        Some(())
    }

    /// The advisory about a used-up message gets lost: it is delivered no more,
    /// and nobody is told. Whoever still has it in hand may let go of it.
    pub(crate) fn lose_advisory(&self, state: &mut State, place: Place) -> Option<()> {
        state.left.advisories = state.left.advisories.checked_sub(1)?;
        self.pay_for_held(state, &place)?;
        state.stream_mut(place.stream).get_mut(&place)?.unheard = true;
        Some(())
    }

    /// Acks, terms or deletes the message, or, where that was lost in a wipe,
    /// perhaps the one that has its number now.
    pub(crate) fn let_go_of(
        &self,
        state: &mut State,
        who: Who,
        other: Option<Place>,
    ) -> Option<()> {
        let hand = state.hand(who)?;
        if let Some(other) = other {
            state.stream_mut(other.stream).remove(&other);
        } else if !hand.stale {
            state.stream_mut(hand.place.stream).remove(&hand.place);
        }
        let replica = state.replica_mut(who)?;
        match hand.phase {
            Phase::LetGo { .. } => replica.hand = None,
            _ => replica.hand.as_mut()?.gone = true,
        }
        Some(())
    }
}
