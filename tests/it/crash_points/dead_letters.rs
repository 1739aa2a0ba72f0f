//! Crashes around a message that can't be processed: it becomes one dead
//! letter, and no other.

use std::time::Duration;

use async_nats::jetstream::{
    AckKind,
    consumer::{Consumer, pull},
};
use futures::StreamExt;
use nix::sys::signal::Signal;
use serde_json::json;
use tests::{client::new_key, eventually, stack::signal};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    rig::{ACCOUNT, Rig, SETTLED_WITHIN, TRANSACTION, Turn},
    scenarios::Letters,
};

pub(super) async fn poison_command(rig: &Rig, turn: Turn<'_>, letters: Letters) {
    rig.both_ready(TRANSACTION).await;
    let poison = format!("no command {}", new_key());
    let traffic = rig.publish("transaction.deposit", &poison);
    let (place, _) = turn.crash(&poison, traffic).await;
    assert!(rig.message("TRANSACTION", place).await.is_some(), "it left the queue");
    assert_eq!(rig.letters(&poison).await, letters, "letters at the crash");
    eventually("it has left the queue", SETTLED_WITHIN, || async {
        rig.message("TRANSACTION", place).await.is_none().then_some(())
    })
    .await;
    assert_eq!(rig.letters(&poison).await, 1);
}

pub(super) async fn poison_result(rig: &Rig, turn: Turn<'_>, letters: Letters) {
    rig.both_ready(ACCOUNT).await;
    let poison = format!("no result {}", new_key());
    let traffic = rig.publish("transaction.result.deposit", &poison);
    let (place, _) = turn.crash(&poison, traffic).await;
    assert!(rig.results_acked_up_to().await < place, "it was acked before its time");
    assert_eq!(rig.letters(&poison).await, letters, "letters at the crash");
    eventually("it is acked", SETTLED_WITHIN, || async {
        (rig.results_acked_up_to().await >= place).then_some(())
    })
    .await;
    assert_eq!(rig.letters(&poison).await, 1);
}

/// Lets the stopped go on, whatever happened.
struct Stopped(Vec<u32>);

impl Drop for Stopped {
    fn drop(&mut self) {
        for pid in &self.0 {
            signal(*pid, Signal::SIGCONT);
        }
    }
}

/// Publishes a withdrawal's command while nobody but us takes any, and gives
/// it back until the server gives it up. Gives its place.
async fn use_up_deliveries(rig: &Rig, command: &str) -> u64 {
    rig.both_ready(TRANSACTION).await;
    let workers = [0, 1].map(|number| rig.stack.pid(&format!("{TRANSACTION}-{number}")));
    let stopped = Stopped(workers.to_vec());
    for pid in workers {
        signal(pid, Signal::SIGSTOP);
    }
    eventually("nobody waits for commands", Duration::from_secs(10), || async {
        let consumer = rig.consumer("withdrawal-consumer", "TRANSACTION").await;
        (consumer.num_waiting == 0).then_some(())
    })
    .await;
    let place = rig.publish("transaction.withdrawal", command).await;
    let consumer: Consumer<pull::Config> =
        rig.jetstream.get_consumer_from_stream("withdrawal-consumer", "TRANSACTION").await.unwrap();
    let mut left = 3;
    while left > 0 {
        let fetch = consumer.fetch().max_messages(1).expires(Duration::from_secs(5));
        let mut one = fetch.messages().await.unwrap();
        let message = one.next().await.unwrap().unwrap();
        // What is another scenario's only takes a turn.
        left -= i32::from(message.payload == command.as_bytes());
        message.ack_with(AckKind::Nak(Some(Duration::from_millis(10)))).await.unwrap();
    }
    drop(stopped);
    place
}

pub(super) async fn used_up_command(rig: &Rig, turn: Turn<'_>, letters: Letters) {
    let deleted = turn.crash.point == "used-up.deleted";
    // Nobody's: should it be processed after all, the books would show it.
    let account = new_key();
    let command = json!({
        "recordId": new_key(), "accountId": account, "userId": "teller", "type": "WITHDRAWAL",
        "amount": "40", "currency": "KRW", "requestedAt": "2026-01-02T03:04:05Z",
    })
    .to_string();
    let (place, _) = turn.crash(&account, use_up_deliveries(rig, &command)).await;
    let queued = rig.message("TRANSACTION", place).await.is_some();
    assert_eq!(queued, !deleted, "whether it is in the queue");
    assert_eq!(rig.letters(&command).await, letters, "letters at the crash");
    let advisory = rig.newest("USED_UP", &format!("\"stream_seq\":{place},")).await.unwrap();
    eventually("the advisory is worked off", SETTLED_WITHIN, || async {
        rig.message("USED_UP", advisory).await.is_none().then_some(())
    })
    .await;
    assert!(rig.message("TRANSACTION", place).await.is_none(), "it is in the queue");
    assert_eq!(rig.letters(&command).await, 1);
}

pub(super) async fn used_up_result(rig: &Rig, turn: Turn<'_>, letters: Letters) {
    rig.both_ready(ACCOUNT).await;
    let account = rig.open_account().await;
    let traffic = async {
        let record = rig.accepted("deposits", &account, 10).await;
        rig.settled(&account).await;
        let place = rig.newest("TRANSACTION_RESULT", &record).await.unwrap();
        let advisory = json!({
            "type": "io.nats.jetstream.advisory.v1.max_deliver",
            "timestamp": OffsetDateTime::now_utc().format(&Rfc3339).unwrap(),
            "stream": "TRANSACTION_RESULT", "consumer": "account-result-consumer",
            "stream_seq": place, "deliveries": 3,
        });
        let subject =
            "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.TRANSACTION_RESULT.account-result-consumer";
        (record, place, rig.publish(subject, &advisory.to_string()).await)
    };
    let ((record, place, advisory), _) = turn.crash(&account, traffic).await;
    let result = rig.message("TRANSACTION_RESULT", place).await.unwrap();
    let body = String::from_utf8(result.payload.to_vec()).unwrap();
    assert_eq!(rig.letters(&body).await, letters, "letters at the crash");
    eventually("the advisory is worked off", SETTLED_WITHIN, || async {
        rig.message("USED_UP", advisory).await.is_none().then_some(())
    })
    .await;
    assert_eq!(rig.letters(&body).await, 1);
    rig.settled_once(&account, &[record], 10).await;
}
