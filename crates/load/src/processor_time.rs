//! The processor time of this process.

use std::time::Duration;

use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeVal,
};

/// User and kernel time of this process since its start.
#[must_use]
pub fn processor_time() -> Duration {
    let duration = |time: TimeVal| {
        let unsigned = |number: i64| u64::try_from(number).unwrap_or_default();
        Duration::from_secs(unsigned(time.tv_sec()))
            + Duration::from_micros(unsigned(time.tv_usec()))
    };
    getrusage(UsageWho::RUSAGE_SELF)
        .map_or(Duration::ZERO, |usage| duration(usage.user_time()) + duration(usage.system_time()))
}
