//! The protocol within a bounded world.

use super::{rules::Rule, scenario::Scenario};
use crate::named::Rules;

/// The protocol within a bounded world.
#[derive(Debug, Clone)]
pub struct Protocol {
    /// The world.
    pub scenario: Scenario,
    /// The rules in force.
    pub rules: Rules<Rule>,
}

impl Protocol {
    /// The protocol with every rule.
    #[must_use]
    pub fn new(scenario: Scenario) -> Self {
        Self::without(scenario, &[])
    }

    /// The protocol without the rules in `off`.
    #[must_use]
    pub fn without(scenario: Scenario, off: &[Rule]) -> Self {
        Self { scenario, rules: Rules::without(off) }
    }

    pub(crate) fn keeps(&self, rule: Rule) -> bool {
        self.rules.keeps(rule)
    }
}
