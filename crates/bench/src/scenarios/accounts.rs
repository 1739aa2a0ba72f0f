//! The distribution of the accounts, and withdrawals.

use std::time::Duration;

use anyhow::Result;
use load::{AccountDistribution, Mix, Pace, Plan, WaitFor};

use super::deposits::{ACCOUNTS, deposits, warm_up};
use crate::{
    bench::Bench,
    section::{Bound, Goal, Section},
    stack::{Settings, Stack},
};

const ABOUT: &str = "Single requests in a closed loop of 256 clients, in four mixes: deposits to \
10,000 accounts with equal probability; to one account only; to 10,000 accounts with probability \
1/k for the k-th (Zipf); and deposits and withdrawals in equal numbers, with a third of the \
withdrawals exceeding the balance.";

const GOAL: &str = "one hot account, relative to 10,000 accounts";
const SPREAD: &str = "10,000 accounts, settled a second";
const HOT: &str = "one account, settled a second";
const ZIPF: &str = "Zipf, settled a second";
const WITHDRAWALS: &str = "half withdrawals, a third refused, settled a second";

pub(super) async fn run(bench: &Bench) -> Result<Section> {
    let stack = Stack::start(bench, Settings::default()).await?;
    let mut section = Section::new("accounts", "Accounts and mixes", ABOUT, bench.quick);
    section.measured_on(&stack.machine);
    let accounts = load::open_accounts(&stack.target, ACCOUNTS, true).await?;
    warm_up(bench, &stack, &accounts).await?;
    let duration = Duration::from_secs(bench.size(5, 2));
    let spread = deposits(Pace::Closed { clients: 256 }, duration, WaitFor::Accepted);
    let mix = Mix { withdrawals: 0.5, refused: 1.0 / 3.0 };
    let plans = [
        (SPREAD, spread),
        (HOT, Plan { distribution: AccountDistribution::Hot, ..spread }),
        (ZIPF, Plan { distribution: AccountDistribution::Zipf(1.0), ..spread }),
        (WITHDRAWALS, Plan { mix, ..spread }),
    ];
    for _ in 0..bench.repetitions() {
        for (name, plan) in plans {
            let report = stack.load(&accounts, plan).await?;
            section.note(name, report.settled_per_second);
        }
    }
    stack.finish().await?;
    Ok(section)
}

pub(super) fn present(section: &mut Section) {
    let row = |name: &str| {
        let ratio = format!("{:.2} ×", section.ratio(name, SPREAD));
        vec![name.to_owned(), section.cell(name), ratio]
    };
    let rows = [SPREAD, HOT, ZIPF, WITHDRAWALS].map(row).to_vec();
    section.table(&["", "settled a second", "relative to 10,000 accounts"], rows);
    let ratio = section.ratio(HOT, SPREAD);
    section.goals.push(Goal::new(GOAL, Bound::AtLeast(0.8), "×", ratio));
}
