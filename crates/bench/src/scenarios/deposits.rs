//! The usual load of the scenarios: single deposits to many accounts.

use std::time::Duration;

use anyhow::Result;
use load::{AccountDistribution, Mix, Pace, Plan, Shape, WaitFor};

use crate::{bench::Bench, stack::Stack};

/// Number of accounts.
pub(super) const ACCOUNTS: usize = 10_000;

/// One deposit per request, to uniformly distributed accounts.
pub(super) const fn deposits(pace: Pace, duration: Duration, wait_for: WaitFor) -> Plan {
    let mix = Mix { withdrawals: 0.0, refused: 0.0 };
    let distribution = AccountDistribution::Uniform;
    Plan { pace, duration, wait_for, distribution, mix, shape: Shape::Single }
}

/// Fills caches, connection pools and prepared plans, without measuring.
pub(super) async fn warm_up(bench: &Bench, stack: &Stack, accounts: &[String]) -> Result<()> {
    let duration = Duration::from_secs(bench.size(4, 2));
    let plan = deposits(Pace::Closed { clients: 64 }, duration, WaitFor::Accepted);
    stack.load(accounts, plan).await.map(drop)
}
