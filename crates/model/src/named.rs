//! Names of rules and invariants, and the set of rules in force.

/// Implements `Display` by `name()`.
macro_rules! display_name {
    ($type:ty) => {
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

/// Implements `FromStr` by `ALL` and `name()`.
macro_rules! parse_name {
    ($type:ty) => {
        impl std::str::FromStr for $type {
            type Err = String;

            fn from_str(name: &str) -> Result<Self, String> {
                Self::ALL
                    .into_iter()
                    .find(|rule| rule.name() == name)
                    .ok_or_else(|| format!("unknown rule {name}"))
            }
        }
    };
}

pub(crate) use {display_name, parse_name};

/// The rules in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules<R> {
    off: Vec<R>,
}

impl<R: Copy + PartialEq> Rules<R> {
    /// Every rule except those in `off`.
    #[must_use]
    pub fn without(off: &[R]) -> Self {
        Self { off: off.to_vec() }
    }

    /// Whether this rule is in force.
    #[must_use]
    pub fn keeps(&self, rule: R) -> bool {
        !self.off.contains(&rule)
    }
}
