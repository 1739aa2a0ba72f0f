//! What this process itself takes.

use std::time::Duration;

use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeVal,
};

/// The processor time that this process has had so far, in the kernel too.
#[must_use]
pub fn processor_time() -> Duration {
    let time = |it: TimeVal| {
        let of = |number: i64| u64::try_from(number).unwrap_or_default();
        Duration::from_secs(of(it.tv_sec())) + Duration::from_micros(of(it.tv_usec()))
    };
    getrusage(UsageWho::RUSAGE_SELF)
        .map_or(Duration::ZERO, |usage| time(usage.user_time()) + time(usage.system_time()))
}
