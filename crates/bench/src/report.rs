//! The report: as JSON with every figure, and as Markdown with plots.

use std::{fmt::Write, fs};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::{
    Bench, plot,
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
    /// What earlier runs left, or an empty one.
    pub(crate) fn open(bench: &Bench) -> Result<Self> {
        let path = bench.dir.join(JSON);
        match fs::read(&path) {
            // One of an older form is begun anew.
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or_default()),
            Err(_) if !path.exists() => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    /// Adds a scenario's section, in the place of what there was of it.
    pub(crate) fn add(&mut self, section: Section) {
        self.sections.retain(|it| it.name != section.name);
        self.sections.push(section);
        let place = |name: &str| Scenario::all().iter().position(|it| it.name() == name);
        self.sections.sort_by_key(|it| place(&it.name));
    }

    /// Writes both forms, and the plots.
    pub(crate) fn write(&self, bench: &Bench) -> Result<()> {
        fs::write(bench.dir.join(JSON), serde_json::to_vec_pretty(self)?)?;
        for plot in self.sections.iter().flat_map(|it| &it.plots) {
            plot::draw(plot, &bench.dir.join(&plot.file).with_extension("svg"))?;
        }
        Ok(fs::write(bench.dir.join(MARKDOWN), self.markdown())?)
    }

    /// The goals, and which are met.
    pub(crate) fn goals(&self) -> String {
        let row = |goal: &Goal| {
            let Goal { what, unit, measured, .. } = goal;
            let bound = match goal.bound {
                Bound::AtLeast(bound) => format!("≥ {bound} {unit}"),
                Bound::AtMost(bound) => format!("≤ {bound} {unit}"),
            };
            let met = if goal.is_met() { "met" } else { "**not met**" };
            vec![what.clone(), bound, format!("{measured:.2} {unit}"), met.to_owned()]
        };
        let rows: Vec<_> = self.sections.iter().flat_map(|it| &it.goals).map(row).collect();
        let headings = ["goal", "wanted", "measured", ""].map(str::to_owned).to_vec();
        markdown(&Table { headings, rows })
    }

    fn markdown(&self) -> String {
        let mut text = String::from(
            "# Benchmarks\n\nEverything on one machine at once: services, servers, load and \
             yardstick; the release build, durability as it ships. Each figure is the median of \
             its runs, with the lowest and the highest; only ratios within a section compare.\n\n",
        );
        // Writing into memory does not fail.
        let _ = writeln!(text, "## Goals\n\n{}", self.goals());
        for section in &self.sections {
            let Section { title, about, machine: at, quick, .. } = section;
            let _ = writeln!(text, "## {title}\n\n{about}\n");
            for table in &section.tables {
                let _ = writeln!(text, "{}", markdown(table));
            }
            for plot in &section.plots {
                let _ = writeln!(text, "![{}]({}.svg)\n", plot.title, plot.file);
            }
            let quick = if *quick { ". A quick run: no figures to rely on" } else { "" };
            let _ = writeln!(
                text,
                "{}: {}, {}, {}; PostgreSQL {}, nats-server {}{quick}.\n",
                at.begun, at.processors, at.memory, at.kernel, at.postgres, at.nats
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
    fn a_scenario_that_runs_again_takes_the_place_of_what_it_said() {
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
