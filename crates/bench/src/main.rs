//! `make bench`: starts the real system on this machine, in the release build
//! with default durability, and measures it together with PostgreSQL's own
//! benchmark. It writes `report.json`, `report.md` and plots.
//!
//! The project's own generator gives the load, and `wrk` beside it, a client of another make.
//!
//! Services, servers, load and yardstick share the same processors. Only the
//! ratios within one run are therefore meaningful, and compared figures are
//! measured in turn. Each scenario has its own stack, and ends with `passbook
//! verify`, because a fast wrong answer is worthless.

mod api;
mod backlog;
mod bench;
mod bystander;
mod database_figures;
mod event_streams;
mod history;
mod machine;
mod nats;
mod pgbench;
mod plot;
mod processes;
mod report;
mod report_job;
mod runs;
mod scenarios;
mod section;
mod stack;
mod wait;
mod wrk;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Parser;

use crate::{bench::Bench, report::Report, scenarios::Scenario};

/// Measure the system, and print which goals are met.
///
/// Exits with 0 if everything was measured, whether or not the goals are met. Exits with 2 if a
/// measurement failed, or `passbook verify` has findings.
#[derive(Debug, Parser)]
struct Arguments {
    /// Three minutes instead of an hour: short runs without repetition. Without --only, it runs
    /// end-to-end, batches, drain and resources. For a first look, not for reliable figures.
    #[arg(long)]
    quick: bool,
    /// Run only these scenarios, separated by commas. The report keeps the sections of the others.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Scenario>,
    /// Measure nothing. Combine the `report.json` of several runs into the report of --dir: medians
    /// over all runs, with the lowest and the highest values. Runs from different hours show by how
    /// much the machine varies.
    #[arg(long, value_name = "FILE", num_args = 2.., conflicts_with_all = ["quick", "only"])]
    merge: Vec<PathBuf>,
    /// Directory of the report, and of the stacks' data during the run.
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    dir: PathBuf,
}

fn main() -> ExitCode {
    // A single thread leaves the other processors to the measured system. Also, children end with
    // the thread that has started them, and this thread lives as long as the process.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let arguments = Arguments::parse();
    match runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(run(arguments))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(2)
        }
    }
}

async fn run(arguments: Arguments) -> Result<()> {
    let Arguments { quick, only, merge, dir } = arguments;
    std::fs::create_dir_all(&dir)?;
    let bench = Bench { quick, dir: std::path::absolute(dir)? };
    if !merge.is_empty() {
        let reports: Vec<_> = merge.iter().map(|path| Report::read(path)).collect::<Result<_>>()?;
        return finish(&bench, &Report::merge(reports));
    }
    let scenarios = match only.as_slice() {
        [] if quick => Scenario::QUICK.to_vec(),
        [] => Scenario::all(),
        _ => only,
    };
    let mut report = Report::open(&bench)?;
    for scenario in scenarios {
        eprintln!("{}", scenario.name());
        let section = scenario.run(&bench).await?;
        report.add(section);
        report.write(&bench)?;
    }
    finish(&bench, &report)
}

fn finish(bench: &Bench, report: &Report) -> Result<()> {
    report.write(bench)?;
    println!("{}", report.goals());
    println!("{}", bench.dir.join("report.md").display());
    Ok(())
}
