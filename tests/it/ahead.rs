//! Starts the scenarios of `crash_points` before the other tests. They mostly wait for
//! redeliveries, so they run beside the tests that need the processors. This module is among the
//! first in the order of names.

use crate::crash_points;

#[test]
fn scenarios_that_mostly_wait_start_first() {
    crash_points::start();
}
