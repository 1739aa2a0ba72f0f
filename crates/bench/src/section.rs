//! The results of a scenario: text, tables, plots and goals. The report keeps
//! the sections of scenarios that a later run leaves out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{machine::Machine, runs::Runs};

/// A scenario's section of the report.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Section {
    /// The scenario's name on the command line.
    pub(crate) name: String,
    pub(crate) title: String,
    /// The method of measurement, as Markdown.
    pub(crate) about: String,
    pub(crate) quick: bool,
    /// The machine and the time of each run.
    pub(crate) machines: Vec<Machine>,
    /// Every figure by its name, including its unit.
    pub(crate) figures: BTreeMap<String, Runs>,
    pub(crate) tables: Vec<Table>,
    pub(crate) plots: Vec<Plot>,
    pub(crate) goals: Vec<Goal>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Table {
    pub(crate) headings: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

/// Lines over a logarithmic x axis.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plot {
    /// File name without `.svg`.
    pub(crate) file: String,
    pub(crate) title: String,
    pub(crate) x: String,
    pub(crate) y: String,
    /// Name and points of each line.
    pub(crate) lines: Vec<(String, Vec<(f64, f64)>)>,
}

/// A bound and the measured value.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Goal {
    #[serde(rename = "what")]
    pub(crate) name: String,
    pub(crate) bound: Bound,
    /// Unit of the bound and of the measured value.
    pub(crate) unit: String,
    /// One value for each run.
    pub(crate) measured: Runs,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Goal {
    pub(crate) fn new(name: &str, bound: Bound, unit: &str, measured: f64) -> Self {
        let measured = Runs::from_iter([measured]);
        Self { name: name.to_owned(), bound, unit: unit.to_owned(), measured }
    }

    /// Whether the median of the runs is within the bound. A value of 0 was not
    /// measured.
    pub(crate) fn is_met(&self) -> bool {
        let measured = self.measured.median();
        match self.bound {
            Bound::AtLeast(bound) => measured >= bound,
            Bound::AtMost(bound) => measured <= bound && measured > 0.0,
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
            machines: Vec::new(),
            figures: BTreeMap::new(),
            tables: Vec::new(),
            plots: Vec::new(),
            goals: Vec::new(),
        }
    }

    /// Adds the figures and goals of another run of the same scenario.
    pub(crate) fn merge(&mut self, other: Self) {
        self.quick |= other.quick;
        self.machines.extend(other.machines);
        for (name, runs) in &other.figures {
            self.figures.entry(name.clone()).or_default().extend(runs);
        }
        for goal in other.goals {
            match self.goals.iter_mut().find(|known| known.name == goal.name) {
                Some(known) => known.measured.extend(&goal.measured),
                None => self.goals.push(goal),
            }
        }
    }

    /// Sets the machine of this run.
    pub(crate) fn measured_on(&mut self, machine: &Machine) {
        self.machines = vec![machine.clone()];
    }

    /// Adds a value to a figure, and prints it to stderr.
    pub(crate) fn note(&mut self, name: impl Into<String>, figure: f64) {
        let name = name.into();
        eprintln!("  {name}: {figure:.2}");
        self.figures.entry(name).or_default().add(figure);
    }

    /// The median of a figure; 0 without values.
    pub(crate) fn median(&self, name: &str) -> f64 {
        self.figures.get(name).map_or(0.0, Runs::median)
    }

    /// The highest value of a figure; 0 without values.
    pub(crate) fn highest(&self, name: &str) -> f64 {
        self.figures.get(name).map_or(0.0, |runs| runs.range().1)
    }

    /// The median of a figure divided by that of a baseline; 0 if the baseline is
    /// 0.
    pub(crate) fn ratio(&self, name: &str, baseline: &str) -> f64 {
        let baseline = self.median(baseline);
        if baseline > 0.0 { self.median(name) / baseline } else { 0.0 }
    }

    /// The table cell of a figure: median, lowest and highest value.
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
        let headings = headings.iter().map(|&heading| heading.to_owned()).collect();
        self.tables.push(Table { headings, rows });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_met_at_its_bound_and_never_without_a_measurement() {
        let is_met = |bound, measured| Goal::new("", bound, "×", measured).is_met();
        assert!(is_met(Bound::AtLeast(3.0), 3.0) && !is_met(Bound::AtLeast(3.0), 2.99));
        assert!(is_met(Bound::AtMost(64.0), 64.0) && !is_met(Bound::AtMost(64.0), 64.1));
        assert!(!is_met(Bound::AtLeast(3.0), 0.0) && !is_met(Bound::AtMost(64.0), 0.0));
    }

    #[test]
    fn a_ratio_divides_medians() {
        let mut section = Section::new("", "", "", true);
        for (name, figure) in [("a", 1.0), ("a", 30.0), ("a", 20.0), ("b", 10.0)] {
            section.note(name, figure);
        }
        assert!((section.ratio("a", "b") - 2.0).abs() < 1e-9);
        assert!(section.ratio("a", "c").abs() < f64::EPSILON);
        assert_eq!(section.cell("a"), "20.0 (1.0 to 30.0)");
    }
}
