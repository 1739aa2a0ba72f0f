//! `make bench`: starts the real system on this machine, release build and
//! default durability, measures it beside PostgreSQL's own benchmark, and
//! writes `report.json`, `report.md` and plots.
//!
//! Everything runs on the same processors: services, servers, load and
//! yardstick. So only the ratios within one run mean something, and what is
//! compared is measured in turn. Each scenario has a stack of its own, and ends
//! with `passbook verify`: a fast wrong answer is none.

mod books;
mod fill;
mod machine;
mod pgbench;
mod plot;
mod processes;
mod report;
mod runs;
mod scenarios;
mod section;
mod stack;
mod wait;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Parser;

use crate::{report::Report, scenarios::Scenario};

/// Measure the system, and say which goals are met.
///
/// Exits with 0 when everything was measured, whether or not the goals are met, and with 2 when
/// something could not be measured or the books do not balance.
#[derive(Debug, Parser)]
struct Arguments {
    /// Two minutes instead of twenty: short runs, once each, of what needs one stack only unless
    /// others are chosen. For a first look, not for figures.
    #[arg(long)]
    quick: bool,
    /// Only these scenarios, separated by commas; the report keeps what it has of the others.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Scenario>,
    /// Where the report goes, and the data of the stacks meanwhile.
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    dir: PathBuf,
}

/// What every scenario works with.
#[derive(Debug)]
pub(crate) struct Bench {
    /// Short runs.
    pub(crate) quick: bool,
    /// Where the report goes.
    pub(crate) dir: PathBuf,
}

fn main() -> ExitCode {
    // One thread: the load must not take both processors, and children that die with their parent
    // have to be started from a thread that lives as long as the process.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(Into::into).and_then(|it| it.block_on(run(Arguments::parse()))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(2)
        }
    }
}

async fn run(arguments: Arguments) -> Result<()> {
    let Arguments { quick, only, dir } = arguments;
    std::fs::create_dir_all(&dir)?;
    let bench = Bench { quick, dir: std::path::absolute(dir)? };
    let chosen = match only.as_slice() {
        [] if quick => Scenario::FIRST_LOOK.to_vec(),
        [] => Scenario::all(),
        _ => only,
    };
    let mut report = Report::open(&bench)?;
    for scenario in chosen {
        eprintln!("{}", scenario.name());
        let section = scenario.run(&bench).await?;
        report.add(section);
        report.write(&bench)?;
    }
    println!("{}", report.goals());
    println!("{}", bench.dir.join("report.md").display());
    Ok(())
}

impl Bench {
    /// The one of these sizes that this run has.
    pub(crate) const fn size<T: Copy>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    /// How often everything is measured.
    pub(crate) const fn repetitions(&self) -> usize {
        self.size(3, 1)
    }
}
