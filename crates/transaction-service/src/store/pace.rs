//! Whether the quick way is worth an attempt.

use std::sync::atomic::{AtomicU32, Ordering};

/// An attempt that fails costs half as much as the careful way. Where one in
/// this many batches at the most is tried in vain, that is nothing.
const LONGEST: u32 = 64;

/// Skips attempts after some failed: one, then two, four … Workers share it
/// without a lock: being off by a batch does no harm.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// How many batches to let pass before the next attempt.
    skip: AtomicU32,
    /// How many were let pass before the last one.
    skipped: AtomicU32,
}

impl Pace {
    /// Whether this batch is one to try.
    pub(super) fn tries(&self) -> bool {
        self.skip
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .is_err()
    }

    /// What came of the attempt.
    pub(super) fn tried(&self, succeeded: bool) {
        let next = match self.skipped.load(Ordering::Relaxed) {
            _ if succeeded => 0,
            skipped => (skipped * 2).clamp(1, LONGEST),
        };
        self.skipped.store(next, Ordering::Relaxed);
        self.skip.store(next, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_get_rare_while_they_fail_and_usual_again_with_the_first_that_succeeds() {
        let pace = Pace::default();
        let mut pauses = Vec::new();
        for _ in 0..9 {
            let pause = (0..1000).take_while(|_| !pace.tries()).count();
            pauses.push(pause);
            pace.tried(false);
        }
        assert_eq!(pauses, [0, 1, 2, 4, 8, 16, 32, 64, 64]);
        assert_eq!((0..1000).take_while(|_| !pace.tries()).count(), 64);
        pace.tried(true);
        assert!(pace.tries() && pace.tries());
    }
}
