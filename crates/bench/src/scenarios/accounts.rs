//! Whose money moves, and which way.

use std::time::Duration;

use anyhow::Result;
use load::{Answer, Choice, Mix, Pace, Plan};

use super::end_to_end::{ACCOUNTS, deposits, warm_up};
use crate::{
    Bench,
    section::{Bound, Goal, Section},
    stack::{Settings, Stack},
};

const ABOUT: &str = "Single requests in a closed loop of 256 clients: deposits to 10,000 accounts \
alike, to one account only, to 10,000 of which the k-th has a chance of 1/k (Zipf), and deposits \
and withdrawals by halves, of which a third of the withdrawals ask for more than is there.";

const SPREAD: &str = "10,000 accounts, settled a second";
const HOT: &str = "one account, settled a second";

pub(super) async fn run(bench: &Bench) -> Result<Section> {
    let stack = Stack::start(bench, Settings::default()).await?;
    let mut section = Section::new("accounts", "Accounts and mixes", ABOUT, bench.quick);
    section.machine = stack.machine.clone();
    let accounts = load::open_accounts(&stack.target, ACCOUNTS, true).await?;
    warm_up(bench, &stack, &accounts).await?;
    let time = Duration::from_secs(bench.size(5, 2));
    let spread = deposits(Pace::Closed { clients: 256 }, time, Answer::Accepted);
    let mix = Mix { withdrawals: 0.5, refused: 1.0 / 3.0 };
    let plans = [
        (SPREAD, spread),
        (HOT, Plan { choice: Choice::Hot, ..spread }),
        ("Zipf, settled a second", Plan { choice: Choice::Zipf(1.0), ..spread }),
        ("half withdrawals, a third refused, settled a second", Plan { mix, ..spread }),
    ];
    for _ in 0..bench.repetitions() {
        for (name, plan) in plans {
            let report = stack.load(&accounts, plan).await?;
            section.note(name, report.settled_per_second);
        }
    }
    stack.finish().await?;
    let row = |(name, _): (&str, Plan)| {
        let times = format!("{:.2} ×", section.ratio(name, SPREAD));
        vec![name.to_owned(), section.cell(name), times]
    };
    let rows = plans.map(row).to_vec();
    section.table(&["", "settled a second", "of 10,000 accounts"], rows);
    let measured = section.ratio(HOT, SPREAD);
    section.goals.push(Goal::new(
        "one hot account, of spread over 10,000",
        Bound::AtLeast(0.8),
        "×",
        measured,
    ));
    Ok(section)
}
