//! The report: JSON with every figure, and Markdown with plots.

use std::{fmt::Write, fs};

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
            let bound = match goal.bound {
                Bound::AtLeast(bound) => format!("≥ {bound} {unit}"),
                Bound::AtMost(bound) => format!("≤ {bound} {unit}"),
            };
            let met = if goal.is_met() { "met" } else { "**not met**" };
            vec![name.clone(), bound, format!("{measured:.2} {unit}"), met.to_owned()]
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
             section.\n\n",
        );
        // A write into memory can't fail.
        let _ = writeln!(text, "## Goals\n\n{}", self.goals());
        for section in &self.sections {
            let Section { title, about, machine, quick, .. } = section;
            let _ = writeln!(text, "## {title}\n\n{about}\n");
            for table in &section.tables {
                let _ = writeln!(text, "{}", markdown(table));
            }
            for plot in &section.plots {
                let _ = writeln!(text, "![{}]({}.svg)\n", plot.title, plot.file);
            }
            let quick = if *quick { ". Quick run: the figures are not reliable" } else { "" };
            let _ = writeln!(
                text,
                "{}: {}, {}, {}; PostgreSQL {}, nats-server {}{quick}.\n",
                machine.begun,
                machine.processors,
                machine.memory,
                machine.kernel,
                machine.postgres,
                machine.nats
            );
        }
        text
    }
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

    fn section(scenario: Scenario, measured: f64) -> Section {
        let mut section = Section::new(scenario.name(), "T", "A", false);
        section.goals.push(Goal::new("g", Bound::AtLeast(3.0), "×", measured));
        section.table(&["a", "b"], vec![vec!["1".into(), "2".into()]]);
        section
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
