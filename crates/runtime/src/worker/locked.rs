//! The accounts whose rows other transactions hold. A batch with one of them would wait
//! for the lock timeout each time. A handler therefore remembers them, and asks the
//! database which of them are still locked, without waiting.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

/// Maximum remembered keys. A forgotten key costs another wait.
const MAX_KEYS: usize = 10_000;

/// Keys whose rows were found locked.
#[derive(Debug)]
pub struct LockedKeys<K>(Mutex<BTreeSet<K>>);

impl<K: Ord + Copy> LockedKeys<K> {
    /// No key.
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(BTreeSet::new()))
    }

    /// Those of the keys that were found locked. They may be free by now.
    pub fn among(&self, keys: impl Iterator<Item = K>) -> BTreeSet<K> {
        let locked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if locked.is_empty() {
            return BTreeSet::new();
        }
        keys.filter(|key| locked.contains(key)).collect()
    }

    /// Remembers that, of the keys `asked` for, these are `locked` and the others free.
    pub fn found(&self, asked: &BTreeSet<K>, locked: &BTreeSet<K>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|key| !asked.contains(key) || locked.contains(key));
        let room = MAX_KEYS.saturating_sub(known.len());
        known.extend(locked.iter().copied().take(room));
    }
}

impl<K: Ord + Copy> Default for LockedKeys<K> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_remembered_until_it_is_found_free() {
        let keys = LockedKeys::new();
        assert!(keys.among([1, 2].into_iter()).is_empty());
        keys.found(&[1, 2, 3].into(), &[2, 3].into());
        assert_eq!(keys.among([1, 2].into_iter()), [2].into());
        keys.found(&[2].into(), &[].into());
        assert_eq!(keys.among([1, 2, 3].into_iter()), [3].into());
    }
}
