//! The job protocol of reports: one at a time, with a clear state. The database with
//! the rows and the storage of files survive everything, and each commit is one step.
//!
//! A replica crashes between any two steps, or gets SIGTERM. A worker is frozen until
//! its lease is over, and then wakes up: it stores files and commits late. Attempts
//! fail. Clients cancel. The broker loses messages, with or without their ids.
//! Its clock goes back, so that it does not redeliver.
//! Publications are lost, or arrive late and twice. Strangers publish. The receiver of
//! alerts refuses them.
//!
//! # Invariants
//!
//! [`invariants::Invariant`] lists the conditions. They are checked in every state.
//! Some are statements about infinite time; [`drain`] checks them in a single state.
//! [`situations`] guards against a model in which nothing happens.
//!
//! The tests explore small worlds ([`cases::worlds`], 0.6 million states in total). In
//! larger ones nothing breaks either. Two reports with a crash, a freeze, a wipe and a
//! slow worker have 5.2 million states. Two reports with a crash, a stop, a failure, a
//! cancellation and a wipe have 6.5 million. Two reports with a crash, a freeze, a wipe and a
//! clock that goes back have 7.0 million.
//!
//! # The reason for each rule
//!
//! Without a rule, exactly these invariants break in the smallest world that shows it.
//! The numbers are the steps of a shortest path. The tests check the same table in
//! [`cases`], and `cargo run -p model -- --rules` prints it.
//! `cargo run -p model -- jobs --off cancel-at-commit --cancels 1` shows a path in words.
//!
//! | rule | breaks |
//! | --- | --- |
//! | `row-before-message` | no-false-alarm (4) |
//! | `commit-before-ack` | nothing-dropped (3) |
//! | `redrive` | settled (2) |
//! | `redrive-message-id` | settled (5) |
//! | `expire-lost` | settled (5), clean (6) |
//! | `wait-for-lease` | one-at-a-time (8) |
//! | `heartbeat` | one-at-a-time (9) |
//! | `running-check` | one-at-a-time (9) |
//! | `claim-under-lock` | one-at-a-time (11) |
//! | `oldest-first` | order (5) |
//! | `fence-by-attempt` | one-at-a-time (16), one-set (12) |
//! | `only-running` | final (8), one-set (9) |
//! | `requeue` | not-held-up (6) |
//! | `count-crashes` | five (14) |
//! | `spare-hand-overs` | five (12) |
//! | `alert-with-failure` | alerted (13) |
//! | `repeat-alert` | alerted (13) |
//! | `cancel-at-commit` | cancelled (7) |
//! | `cancel-before-retry` | cancelled (12) |
//! | `paths-by-attempt` | one-set (12) |
//! | `clean-up` | clean (6) |
//! | `spare-running` | one-set (7) |
//! | `dead-letter` | nothing-dropped (1) |
//! | `dead-letter-before-term` | nothing-dropped (4) |
//! | `requeue-unlettered` | nothing-dropped (4) |
//! | `work-off-used-up` | nothing-dropped (3) |
//! | `settle-idle` | settled (5) |
//!
//! Some rules are covered by others, wholly or in part:
//!
//! - `one-delivery` and `keep-in-progress` are not needed beside `running-check`: a
//!   worker with a second message waits. Without `running-check`, each of them is
//!   needed (one-at-a-time, 8 and 7 steps). They are not enough alone: after a wipe,
//!   new messages reach other workers.
//! - `commit-before-ack` is needed for stray messages only. A report that loses its
//!   message gets another one from `redrive`, so a lost ack and an early ack cost a
//!   second. For the same reason, the order of the ack and of the commit of QUEUED does
//!   not matter after a failed attempt.
//! - Messages are counted, not matched with reports. That is enough for *settled*,
//!   because each message wakes a worker for the oldest due report. A message at
//!   `max_deliver` must not be counted. The server does not count it either.
//!
//! # Known limit
//!
//! The ack of a lost message can remove another message with the same sequence number
//! ([`cases::known_limits`]; [`crate::money`] explains it). A removed message of a
//! report is sent again. A stray message may disappear without a dead letter.
//!
//! # Counterparts in the code
//!
//! The files are in `report-service/src`, if no other crate is named.
//!
//! | model | system |
//! | --- | --- |
//! | `Report` | the tables `reports`, `report_artifacts` and `report_alerts` |
//! | `Accept`, `outgoing`, `Send` | `store/insert.rs`; `wake.rs` |
//! | `Redrive` | `claim_unsent` in `store/queue.rs`; `redrive.rs` |
//! | `Check`, `Claim` | `store/claim.rs` |
//! | `Store`, `Commit` | `worker/attempt.rs`; `succeed` in `store/attempts.rs` |
//! | `Fail`, `ObserveCancel`, `Stop` | `end` in `store/attempts.rs`; `after` in `job.rs` |
//! | `EndLease` of a frozen worker, `Abandon` | `worker/control.rs` |
//! | `Expire` | `expire_lost` in `store/attempts.rs` |
//! | `Cancel` | `cancel` in `store/attempts.rs` |
//! | `DeadLetterReport`, `TakeAlert`, `RefuseAlert` | `alert.rs` |
//! | `Delete` | `cleanup.rs`; `is_wanted` in `store/artifacts.rs` |
//! | `Deliver`, `DeadLetter`, `Acknowledge` | `runtime/src/worker/job.rs` |
//! | `SettleIdle` | `redrive.rs`; `runtime/src/worker/sweep.rs` |
//! | `WorkOff` | `runtime/src/worker/max_deliveries.rs` and `sweep.rs`; `ExhaustedJobs` in `worker/mod.rs` |
//!
//! # Simplifications
//!
//! - **Time.** Leases, ack waits, delays and the pause between two messages for one
//!   report end at any moment. One thing is assumed: the lease of a worker with a
//!   heartbeat ends only if the worker is frozen. A worker without its database for so
//!   long is the same case.
//! - **Files.** One file stands for all formats. An attempt deletes its own files if it
//!   ends without success. The clean-up would delete them later, so the model has the
//!   clean-up only. Files do not expire.
//! - **The broker's clock** goes back for longer than anything else lasts. A worker that keeps
//!   its message in progress would undo it; the model does not, because it may crash before.
//!   A held message is settled also while a worker has it: a worker without its database.
//! - **Five.** Reports fail at the second or third failure, which keeps the worlds
//!   small.
//! - **Permanent failures** end a report like the last failure, but without an alert.
//! - **Dead letters** are not lost, as in the money model. A stray message at
//!   `max_deliver` is dead-lettered and deleted in one step; the money model has both
//!   steps.

pub mod action;
pub mod cases;
pub mod counterexample;
pub mod drain;
pub mod invariants;
pub mod protocol;
pub mod replica;
pub mod report;
pub mod rules;
pub mod scenario;
pub mod situations;
pub mod state;
pub mod stream;

mod attempts;
mod broker;
mod faults;
mod service;
mod state_machine;
mod steps;
mod transitions;
