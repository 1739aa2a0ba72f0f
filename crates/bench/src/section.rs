//! What a scenario found: text, tables, plots and goals. The report prints
//! it, and keeps it for a later run of other scenarios.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{machine::Machine, runs::Runs};

/// One scenario's part of the report.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Section {
    /// The scenario's name.
    pub(crate) name: String,
    pub(crate) title: String,
    /// What was done.
    pub(crate) about: String,
    /// Whether this was a quick run.
    pub(crate) quick: bool,
    /// Where and when.
    pub(crate) machine: Machine,
    /// Every figure, with its unit in its name.
    pub(crate) figures: BTreeMap<String, Runs>,
    pub(crate) tables: Vec<Table>,
    pub(crate) plots: Vec<Plot>,
    pub(crate) goals: Vec<Goal>,
}

/// Rows under headings.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Table {
    pub(crate) headings: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

/// Lines over a logarithmic axis.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plot {
    /// Its file name, without `.svg`.
    pub(crate) file: String,
    pub(crate) title: String,
    pub(crate) x: String,
    pub(crate) y: String,
    /// Each with its name.
    pub(crate) lines: Vec<(String, Vec<(f64, f64)>)>,
}

/// What was to be reached, and what was.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Goal {
    pub(crate) what: String,
    pub(crate) bound: Bound,
    /// Of the bound and the figure.
    pub(crate) unit: String,
    pub(crate) measured: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Goal {
    pub(crate) fn new(what: &str, bound: Bound, unit: &str, measured: f64) -> Self {
        Self { what: what.to_owned(), bound, unit: unit.to_owned(), measured }
    }

    pub(crate) fn is_met(&self) -> bool {
        match self.bound {
            Bound::AtLeast(bound) => self.measured >= bound,
            Bound::AtMost(bound) => self.measured <= bound && self.measured > 0.0,
        }
    }
}

impl Section {
    pub(crate) fn new(name: &str, title: &str, about: &str, quick: bool) -> Self {
        Self {
            name: name.to_owned(),
            title: title.to_owned(),
            about: about.to_owned(),
            quick,
            machine: Machine::default(),
            figures: BTreeMap::new(),
            tables: Vec::new(),
            plots: Vec::new(),
            goals: Vec::new(),
        }
    }

    /// Notes a figure under its name.
    pub(crate) fn note(&mut self, name: impl Into<String>, figure: f64) {
        let name = name.into();
        eprintln!("  {name}: {figure:.2}");
        self.figures.entry(name).or_default().add(figure);
    }

    /// The median of what was noted under this name.
    pub(crate) fn median(&self, name: &str) -> f64 {
        self.figures.get(name).map_or(0.0, Runs::median)
    }

    /// One median over another; 0 when that is 0.
    pub(crate) fn ratio(&self, name: &str, over: &str) -> f64 {
        let over = self.median(over);
        if over > 0.0 { self.median(name) / over } else { 0.0 }
    }

    /// Median, lowest and highest, for a table.
    pub(crate) fn cell(&self, name: &str) -> String {
        let Some(runs) = self.figures.get(name) else { return String::new() };
        let (low, high) = runs.range();
        let digits = usize::from(high < 100.0) + usize::from(high < 10.0);
        if low < high {
            format!("{:.digits$} ({low:.digits$} to {high:.digits$})", runs.median())
        } else {
            format!("{:.digits$}", runs.median())
        }
    }

    pub(crate) fn table(&mut self, headings: &[&str], rows: Vec<Vec<String>>) {
        let headings = headings.iter().map(|&it| it.to_owned()).collect();
        self.tables.push(Table { headings, rows });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_met_at_its_bound_and_never_by_nothing() {
        let met = |bound, measured| Goal::new("", bound, "×", measured).is_met();
        assert!(met(Bound::AtLeast(3.0), 3.0) && !met(Bound::AtLeast(3.0), 2.99));
        assert!(met(Bound::AtMost(64.0), 64.0) && !met(Bound::AtMost(64.0), 64.1));
        assert!(!met(Bound::AtLeast(3.0), 0.0) && !met(Bound::AtMost(64.0), 0.0));
    }

    #[test]
    fn ratios_are_of_medians() {
        let mut section = Section::new("", "", "", true);
        for (name, figure) in [("a", 1.0), ("a", 30.0), ("a", 20.0), ("b", 10.0)] {
            section.note(name, figure);
        }
        assert!((section.ratio("a", "b") - 2.0).abs() < 1e-9);
        assert!(section.ratio("a", "c").abs() < f64::EPSILON);
        assert_eq!(section.cell("a"), "20.0 (1.0 to 30.0)");
    }
}
