//! A short list with a value for each part of a message.

use std::hash::{Hash, Hasher};

/// The most parts of a message in any scenario.
pub const MAX_PARTS: usize = 3;

/// One value for each part of a message, at most [`MAX_PARTS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Parts<T>([Option<T>; MAX_PARTS]);

impl<T: Copy> Parts<T> {
    /// The value of a message with one part.
    #[must_use]
    pub fn single(value: T) -> Self {
        Self::from_iter([value])
    }

    /// The values in order.
    pub fn iter(&self) -> impl Iterator<Item = T> {
        self.0.iter().flatten().copied()
    }

    /// Number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of this part.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<T> {
        self.0.get(index).copied().flatten()
    }

    /// The value of this part, for changes.
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.0.get_mut(index)?.as_mut()
    }

    /// Every value, for changes.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut().flatten()
    }

    /// Whether every value fulfils the condition.
    pub fn all(&self, condition: impl Fn(T) -> bool) -> bool {
        self.iter().all(condition)
    }

    /// Whether a value fulfils the condition.
    pub fn any(&self, condition: impl Fn(T) -> bool) -> bool {
        self.iter().any(condition)
    }
}

impl<T: Copy + Ord> Parts<T> {
    /// The same values in ascending order.
    #[must_use]
    pub fn sorted(mut self) -> Self {
        self.0.sort_unstable_by_key(|value| (value.is_none(), *value));
        self
    }
}

impl<T: Copy> FromIterator<T> for Parts<T> {
    /// The first [`MAX_PARTS`] values.
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let mut parts = [None; MAX_PARTS];
        for (part, value) in parts.iter_mut().zip(values) {
            *part = Some(value);
        }
        Self(parts)
    }
}

/// Hashes no absent value, because most messages have one part.
impl<T: Copy + Hash> Hash for Parts<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.len().hash(state);
        self.iter().for_each(|value| value.hash(state));
    }
}
