//! Rests between slices, so that other users of the database are hardly slowed down.

use std::time::Duration;

use clap::Args;

/// How much an activity report takes from the machine.
#[derive(Debug, Clone, Copy, Args)]
pub struct ActivityConfig {
    /// Ids of the ledger that an activity report reads at a time: 1,000 to 200,000. More need more
    /// memory, and make longer statements.
    #[arg(long, env = "PASSBOOK_REPORT_ACTIVITY_SLICE", value_name = "ROWS", default_value_t = 20_000,
          value_parser = clap::value_parser!(u32).range(1_000..=200_000))]
    pub activity_slice: u32,
    /// Percentage of the time that an activity report works: 1 to 100. It rests for the remainder,
    /// after each slice.
    #[arg(long, env = "PASSBOOK_REPORT_ACTIVITY_BUSY", value_name = "PERCENT", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..=100))]
    pub activity_busy: u32,
}

impl ActivityConfig {
    /// The rest after this much work.
    pub(super) fn rest_after(&self, work: Duration) -> Duration {
        let busy = self.activity_busy.clamp(1, 100);
        work * (100 - busy) / busy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_keeps_the_busy_part_of_the_time() {
        let rest = |activity_busy| {
            let config = ActivityConfig { activity_slice: 1_000, activity_busy };
            config.rest_after(Duration::from_millis(100)).as_millis()
        };
        assert_eq!([rest(100), rest(50), rest(25), rest(10)], [0, 100, 300, 900]);
    }
}
