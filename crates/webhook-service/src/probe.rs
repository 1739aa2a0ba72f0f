//! Which new event a failing endpoint gets as a probe. Pure.
//!
//! A receiver that refuses some events often refuses those of one account, or of one type. If the
//! probe were always the oldest new event, a hundred of them would hold up all others for hours.

use std::collections::HashSet;

use crate::store::EventClass;

/// The index of the new event that is least like the refused ones: of another account, and of
/// another type. It is among the first `most`. The oldest one of several is chosen, and of events
/// that are all alike.
#[must_use]
pub fn choose(new: &[EventClass], refused: &[EventClass], most: usize) -> usize {
    let accounts: HashSet<_> = refused.iter().map(|refused| refused.account).collect();
    let kinds: HashSet<_> = refused.iter().map(|refused| refused.kind).collect();
    let likeness = |class: EventClass| {
        u8::from(accounts.contains(&class.account)) + u8::from(kinds.contains(&class.kind))
    };
    let candidates = new.iter().copied().take(most).enumerate();
    candidates.min_by_key(|(_, class)| likeness(*class)).map_or(0, |(index, _)| index)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn class((account, kind): &(u128, i16)) -> EventClass {
        EventClass { account: Uuid::from_u128(*account), kind: *kind }
    }

    #[test]
    fn a_probe_is_the_first_event_that_is_least_like_the_refused_ones() {
        let chosen = |new: &[(u128, i16)], refused: &[(u128, i16)], most| {
            let classes = |list: &[(u128, i16)]| -> Vec<_> { list.iter().map(class).collect() };
            choose(&classes(new), &classes(refused), most)
        };
        let new = [(1, 1), (1, 2), (2, 1), (2, 2), (3, 2)];
        // Of another account and another type; of another account; of another type.
        assert_eq!(chosen(&new, &[(1, 1)], 10), 3);
        assert_eq!(chosen(&new, &[(1, 1), (4, 2)], 10), 2);
        assert_eq!(chosen(&new, &[(1, 1), (2, 1), (3, 1)], 10), 1);
        // Not farther than there may be rows. All are alike; none was refused.
        assert_eq!(chosen(&new, &[(1, 1)], 3), 1);
        assert_eq!(chosen(&new, &[(1, 1), (2, 2), (3, 2)], 10), 0);
        assert_eq!(chosen(&new, &[], 10), 0);
        assert_eq!(chosen(&new, &[(1, 1)], 0), 0);
    }
}
