//! Crashes around a message that has to be dead-lettered: in the end there must
//! be exactly one dead letter.
//!
//! `at_crash` is the number of dead letters right after the crash.

use serde_json::json;
use tests::{broker, client::new_key, eventually};
use time::OffsetDateTime;

use super::fixture::{ACCOUNT, Fixture, SETTLED_WITHIN, TRANSACTION, Turn};

/// A command of no valid form.
pub(super) async fn invalid_command(fixture: &Fixture, turn: Turn<'_>, at_crash: usize) {
    fixture.both_ready(TRANSACTION).await;
    let poison = format!("no command {}", new_key());
    let traffic = fixture.publish("transaction.deposit", &poison);
    let (sequence, _) = turn.crash(&poison, traffic).await;
    let queued = fixture.message("TRANSACTION", sequence).await.is_some();
    assert!(queued, "the message left the queue before its time");
    assert_eq!(fixture.dead_letters(&poison).await, at_crash, "dead letters at the crash");
    eventually("the message has left the queue", SETTLED_WITHIN, || async {
        fixture.message("TRANSACTION", sequence).await.is_none().then_some(())
    })
    .await;
    assert_eq!(fixture.dead_letters(&poison).await, 1);
}

/// A result of no valid form.
pub(super) async fn invalid_result(fixture: &Fixture, turn: Turn<'_>, at_crash: usize) {
    fixture.both_ready(ACCOUNT).await;
    let poison = format!("no result {}", new_key());
    let traffic = fixture.publish("transaction.result.deposit", &poison);
    let (sequence, _) = turn.crash(&poison, traffic).await;
    let ack_floor = fixture.results_ack_floor().await;
    assert!(ack_floor < sequence, "the message was acked before its time");
    assert_eq!(fixture.dead_letters(&poison).await, at_crash, "dead letters at the crash");
    fixture.result_acked(sequence).await;
    assert_eq!(fixture.dead_letters(&poison).await, 1);
}

/// Publishes a message for withdrawals while both replicas are paused, and delivers it as
/// often as its consumer allows. Gives its sequence.
pub(super) async fn exhaust_deliveries(fixture: &Fixture, message: &str) -> u64 {
    fixture.both_ready(TRANSACTION).await;
    let paused = fixture.stack.pause_workers();
    broker::no_open_pulls(&fixture.jetstream, "TRANSACTION", "withdrawal-consumer").await;
    let sequence = fixture.publish("transaction.withdrawal", message).await;
    let consumer = broker::consumer(&fixture.jetstream, "TRANSACTION", "withdrawal-consumer").await;
    let mut remaining = 3;
    while remaining > 0 {
        // Commands of other scenarios are handed back without being counted.
        remaining -= i32::from(broker::fetch_and_nak(&consumer).await == message.as_bytes());
    }
    drop(paused);
    sequence
}

/// A command whose deliveries have reached the maximum.
pub(super) async fn command_at_max_deliveries(fixture: &Fixture, turn: Turn<'_>, at_crash: usize) {
    let deleted = turn.crash.point == "used-up.deleted";
    // An unknown account: if the command were processed after all, `verify` would find it.
    let account = new_key();
    let command = json!({
        "recordId": new_key(), "accountId": account, "userId": "teller", "type": "WITHDRAWAL",
        "amount": "40", "currency": "KRW", "requestedAt": "2026-01-02T03:04:05Z",
    })
    .to_string();
    let (sequence, _) = turn.crash(&account, exhaust_deliveries(fixture, &command)).await;
    let queued = fixture.message("TRANSACTION", sequence).await.is_some();
    assert_eq!(queued, !deleted, "whether the command is in the queue");
    assert_eq!(fixture.dead_letters(&command).await, at_crash, "dead letters at the crash");
    advisory_acked(fixture, fixture.advisory(sequence).await).await;
    let queued = fixture.message("TRANSACTION", sequence).await.is_some();
    assert!(!queued, "the command is still in the queue");
    assert_eq!(fixture.dead_letters(&command).await, 1);
}

/// A settled result and an advisory of its maximum of deliveries.
pub(super) async fn result_at_max_deliveries(fixture: &Fixture, turn: Turn<'_>, at_crash: usize) {
    fixture.both_ready(ACCOUNT).await;
    let account = fixture.open_account().await;
    let traffic = async {
        let record = fixture.accepted("deposits", &account, 10).await;
        fixture.settled(&account).await;
        let (body, sequence) = broker::publish_result_alone(&fixture.jetstream, &record).await;
        let now = OffsetDateTime::now_utc();
        let advisory =
            broker::publish_max_deliveries_advisory(&fixture.jetstream, sequence, now).await;
        (record, body, advisory)
    };
    let ((record, body, advisory), _) = turn.crash(&account, traffic).await;
    assert_eq!(fixture.dead_letters(&body).await, at_crash, "dead letters at the crash");
    advisory_acked(fixture, advisory).await;
    assert_eq!(fixture.dead_letters(&body).await, 1);
    fixture.settled_once(&account, &[record], 10).await;
}

pub(super) async fn advisory_acked(fixture: &Fixture, advisory: u64) {
    eventually("the advisory is acked", SETTLED_WITHIN, || async {
        fixture.message("USED_UP", advisory).await.is_none().then_some(())
    })
    .await;
}
