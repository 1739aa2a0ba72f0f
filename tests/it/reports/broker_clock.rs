//! The clock of the broker jumps while a worker that was killed has the message of a report.

use std::time::Instant;

use nix::sys::signal::Signal;
use tests::{broker_clock::BrokerClock, process::signal};

use super::{
    renderer::{AT_ONCE, Answer},
    setup::{Setup, outcomes},
};

const DAY: i64 = 24 * 60 * 60;

#[tokio::test]
async fn a_report_is_made_though_its_worker_is_killed_and_the_clock_of_the_broker_jumps() {
    let setup = Setup::start("clock-of-the-broker-reports", 2, 0, &[]).await;
    let Some(clock) = BrokerClock::of(setup.stack.pid("nats")) else {
        println!("skipped: the clock of nats-server can't be changed here");
        return;
    };
    setup.renderer.answer(|call| if call.attempt == 1 { Answer::Nothing } else { AT_ONCE });
    for seconds in [DAY, 0, -DAY, 0] {
        let report = setup.ask().await;
        let worker = setup.attempt_runs(&report, 1).await;
        clock.jump(seconds);
        signal(worker, Signal::SIGKILL);
        let killed = Instant::now();
        let ended = setup.ended(&report).await;
        assert_eq!(ended.text("state"), "SUCCEEDED", "{ended:?}");
        assert_eq!(outcomes(&ended), ["LOST", "SUCCEEDED"]);
        println!("wrong by {seconds} s: the report was made {:.1?} later", killed.elapsed());
    }
    assert_eq!(setup.alerts.tries(), 0);
}
