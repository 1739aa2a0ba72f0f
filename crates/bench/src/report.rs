//! The report: JSON with every figure, and Markdown with plots.

use std::{fmt::Write, fs, path::Path};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::{
    bench::Bench,
    plot,
    scenarios::Scenario,
    section::{Bound, Goal, Section, Table},
};

const JSON: &str = "report.json";
const MARKDOWN: &str = "report.md";

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    sections: Vec<Section>,
}

impl Report {
    /// Reads the report of earlier runs. A missing report, or one of an older
    /// format, counts as empty.
    pub(crate) fn open(bench: &Bench) -> Result<Self> {
        let path = bench.dir.join(JSON);
        match fs::read(&path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or_default()),
            Err(_) if !path.exists() => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// Adds the section of a scenario, or replaces it.
    pub(crate) fn add(&mut self, section: Section) {
        self.sections.retain(|other| other.name != section.name);
        self.sections.push(section);
        let position =
            |name: &str| Scenario::all().iter().position(|scenario| scenario.name() == name);
        self.sections.sort_by_key(|section| position(&section.name));
    }

    /// Combines the reports of several runs of the benchmark. Each section has
    /// the figures of all runs, and a goal one value for each run.
    pub(crate) fn merge(reports: impl IntoIterator<Item = Self>) -> Self {
        let mut merged = Self::default();
        for section in reports.into_iter().flat_map(|report| report.sections) {
            match merged.sections.iter_mut().find(|known| known.name == section.name) {
                Some(known) => known.merge(section),
                None => merged.sections.push(section),
            }
        }
        let sections = std::mem::take(&mut merged.sections);
        sections.into_iter().for_each(|section| merged.add(present_again(section)));
        merged
    }

    /// Reads a report.
    ///
    /// # Errors
    /// The file is missing, or is not a report of this version.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is not a report of this version", path.display()))
    }

    /// Writes JSON, Markdown and plots.
    pub(crate) fn write(&self, bench: &Bench) -> Result<()> {
        fs::write(bench.dir.join(JSON), serde_json::to_vec_pretty(self)?)?;
        for plot in self.sections.iter().flat_map(|section| &section.plots) {
            plot::draw(plot, &bench.dir.join(&plot.file).with_extension("svg"))?;
        }
        Ok(fs::write(bench.dir.join(MARKDOWN), self.markdown())?)
    }

    /// The goals with their results, as a Markdown table.
    pub(crate) fn goals(&self) -> String {
        let row = |goal: &Goal| {
            let Goal { name, unit, measured, .. } = goal;
            let measured = match (measured.median(), measured.range()) {
                (0.0, _) => "not measured".to_owned(),
                (median, (low, high)) if low < high => {
                    format!("{median:.2} {unit} ({low:.2} to {high:.2})")
                }
                (median, _) => format!("{median:.2} {unit}"),
            };
            let bound = match goal.bound {
                Bound::AtLeast(bound) => format!("≥ {bound} {unit}"),
                Bound::AtMost(bound) => format!("≤ {bound} {unit}"),
            };
            let met = if goal.is_met() { "met" } else { "**not met**" };
            vec![name.clone(), bound, measured, met.to_owned()]
        };
        let rows: Vec<_> =
            self.sections.iter().flat_map(|section| &section.goals).map(row).collect();
        let headings = ["goal", "wanted", "measured", ""].map(str::to_owned).to_vec();
        markdown(&Table { headings, rows })
    }

    fn markdown(&self) -> String {
        let mut text = String::from(
            "# Benchmarks\n\nServices, servers, load and yardstick run on one machine at the same \
             time: the release build, with default durability. Each figure is the median of its \
             runs, with the lowest and the highest in brackets. Compare only ratios within a \
             section. The dates below each section name its runs; a goal has one value for each of \
             them.\n\n",
        );
        // A write into memory can't fail.
        let _ = writeln!(text, "## Goals\n\n{}", self.goals());
        for section in &self.sections {
            let Section { title, about, machines, quick, .. } = section;
            let _ = writeln!(text, "## {title}\n\n{about}\n");
            for table in &section.tables {
                let _ = writeln!(text, "{}", markdown(table));
            }
            for plot in &section.plots {
                let _ = writeln!(text, "![{}]({}.svg)\n", plot.title, plot.file);
            }
            let quick = if *quick { ". Quick run: the figures are not reliable" } else { "" };
            for machine in machines {
                let _ = writeln!(text, "{machine}{quick}.\n");
            }
        }
        text
    }
}

/// Tables and plots of all figures. The goals keep their value for each run.
fn present_again(mut section: Section) -> Section {
    let scenario = Scenario::all().into_iter().find(|scenario| scenario.name() == section.name);
    let Some(scenario) = scenario else { return section };
    let goals = std::mem::take(&mut section.goals);
    section.tables.clear();
    section.plots.clear();
    scenario.present(&mut section);
    section.goals = goals;
    section
}

fn markdown(table: &Table) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let rule: String = table.headings.iter().map(|_| " --- |").collect();
    let rows: String = table.rows.iter().map(|row| line(row)).collect();
    format!("{}|{rule}\n{rows}", line(&table.headings))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Machine;

    fn section(scenario: Scenario, measured: f64) -> Section {
        let mut section = Section::new(scenario.name(), "T", "A", false);
        section.goals.push(Goal::new("g", Bound::AtLeast(3.0), "×", measured));
        section.table(&["a", "b"], vec![vec!["1".into(), "2".into()]]);
        section
    }

    #[test]
    fn merged_runs_have_all_figures_and_a_goal_has_a_value_for_each_run() {
        let run = |begun: &str, r1: f64, r3: f64| {
            let mut section = Section::new("replication", "T", "A", false);
            let begun = begun.to_owned();
            section.measured_on(&Machine { begun, ..Machine::default() });
            section.note("R1, settled a second", r1);
            section.note("R3, settled a second", r3);
            Scenario::Replication.present(&mut section);
            let mut report = Report::default();
            report.add(section);
            report
        };
        let merged = Report::merge([
            run("2026-11-22T11:00:00Z", 1000.0, 500.0),
            run("2026-11-22T19:00:00Z", 2000.0, 1800.0),
        ]);
        let text = merged.markdown();
        for part in [
            "| 0.70 × (0.50 to 0.90) | **not met** |",
            "| R1, settled a second | 1500 (1000 to 2000) | 1.00 × |",
            "2026-11-22T11:00:00Z: ",
            "2026-11-22T19:00:00Z: ",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(merged.sections.len(), 1);
        // A merged report can be merged with a later run.
        let again = Report::merge([merged, run("2026-11-23T02:00:00Z", 1000.0, 800.0)]);
        assert!(again.goals().contains("| 0.80 × (0.50 to 0.90) | met |"), "{}", again.goals());
    }

    #[test]
    fn a_scenario_that_runs_again_replaces_its_section() {
        let mut report = Report::default();
        report.add(section(Scenario::Drain, 1.0));
        report.add(section(Scenario::EndToEnd, 3.5));
        report.add(section(Scenario::Drain, 2.0));
        let goals = report.goals();
        let lines: Vec<_> = goals.lines().skip(2).collect();
        assert_eq!(lines, ["| g | ≥ 3 × | 3.50 × | met |", "| g | ≥ 3 × | 2.00 × | **not met** |"]);
        assert!(report.markdown().contains("| a | b |\n| --- | --- |\n| 1 | 2 |\n"));
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap().goals(), goals);
    }
}
