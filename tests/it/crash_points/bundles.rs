//! Crashes between two commands, results or dead letters of a message.

use serde_json::{Value, json};
use tests::{PendingDeposits, broker, client::new_key, eventually};
use uuid::Uuid;

use super::{
    dead_letters::{advisory_acked, exhaust_deliveries},
    fixture::{Fixture, SETTLED_WITHIN, TRANSACTION, Turn},
};

/// The number of the account's transactions in the ledger.
async fn decided(fixture: &Fixture, account: &str) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM transactions WHERE account_id = $1")
        .bind(Uuid::parse_str(account).unwrap())
        .fetch_one(&fixture.ledger)
        .await
        .unwrap()
}

/// Stores PENDING movements that only the returned commands decide.
async fn pending(fixture: &Fixture, account: &str, kind: &str, amounts: &[i64]) -> Vec<Value> {
    let records: Vec<_> = amounts.iter().map(|_| new_key()).collect();
    let movements = records.iter().map(String::as_str).zip(amounts.iter().copied());
    let pending = PendingDeposits { kind, ..PendingDeposits::of(account).not_due() };
    pending.store(&fixture.accounts, movements).await;
    let commands = records.iter().zip(amounts);
    commands.map(|(record, amount)| command(record, account, kind, *amount)).collect()
}

fn command(record: &str, account: &str, kind: &str, amount: i64) -> Value {
    json!({
        "recordId": record, "accountId": account, "userId": "teller", "type": kind,
        "amount": amount.to_string(), "currency": "KRW", "requestedAt": "2026-01-02T03:04:05Z",
    })
}

/// Withdrawals from two accounts, in one message. The ledger commits those of the rich account
/// first, because none of them can be refused.
pub(super) async fn overdrawn_bundle(fixture: &Fixture, turn: Turn<'_>) {
    const KIND: &str = "WITHDRAWAL";
    fixture.both_ready(TRANSACTION).await;
    let [account, rich] = [fixture.open_account().await, fixture.open_account().await];
    for account in [&account, &rich] {
        fixture.accepted("deposits", account, 100).await;
        fixture.settled(account).await;
    }
    let mut commands = pending(fixture, &account, KIND, &[60, 60, 60]).await;
    commands.extend(pending(fixture, &rich, KIND, &[10, 10]).await);
    let message = json!({ "commands": commands }).to_string();
    let traffic = fixture.publish("transaction.withdrawal", &message);
    let (sequence, _) = turn.crash(&account, traffic).await;
    let queued = fixture.message("TRANSACTION", sequence).await.is_some();
    assert!(queued, "the message was acked before its time");
    // Each account's deposit was decided before.
    assert_eq!((decided(fixture, &rich).await, decided(fixture, &account).await), (3, 1));
    for (account, balance, seq) in [(&account, "40", 2), (&rich, "80", 3)] {
        fixture.settled(account).await;
        let shown = fixture.account(account).await;
        assert_eq!((shown.text("balance"), &shown.body["accountSeq"]), (balance, &json!(seq)));
    }
    assert_eq!(decided(fixture, &account).await, 4);
}

/// Deposits in one message, with half of their results published.
pub(super) async fn messages_of_results(fixture: &Fixture, turn: Turn<'_>) {
    fixture.both_ready(TRANSACTION).await;
    let account = fixture.open_account().await;
    let commands = pending(fixture, &account, "DEPOSIT", &[10; 50]).await;
    let records: Vec<_> =
        commands.iter().map(|command| command["recordId"].as_str().unwrap().to_owned()).collect();
    let message = json!({ "commands": commands }).to_string();
    let traffic = fixture.publish("transaction.deposit", &message);
    let (sequence, _) = turn.crash(&account, traffic).await;
    let queued = fixture.message("TRANSACTION", sequence).await.is_some();
    assert!(queued, "the message was acked before its time");
    let published = records.iter().filter(|record| !fixture.results_of(record).is_empty());
    let published = published.count();
    // At most ten results a message.
    assert!((10..50).contains(&published), "{published} results were published");
    fixture.settled_once(&account, &records, 500).await;
}

/// A message with a valid command among invalid ones. At the crash, `least` to `most` of these
/// have a dead letter.
pub(super) async fn invalid_parts(
    fixture: &Fixture,
    turn: Turn<'_>,
    (least, most): (usize, usize),
) {
    fixture.both_ready(TRANSACTION).await;
    let account = fixture.open_account().await;
    let mut commands = pending(fixture, &account, "DEPOSIT", &[10]).await;
    let record = commands[0]["recordId"].as_str().unwrap().to_owned();
    let invalid = [0, 1, 2, 3, 4].map(|number| json!({ "account": account, "number": number }));
    commands.splice(..0, invalid[..2].iter().cloned());
    commands.extend_from_slice(&invalid[2..]);
    let message = json!({ "commands": commands }).to_string();
    let traffic = fixture.publish("transaction.deposit", &message);
    let (sequence, _) = turn.crash(&account, traffic).await;
    let queued = fixture.message("TRANSACTION", sequence).await.is_some();
    assert!(queued, "the message left the queue before its time");
    let at_crash: usize = letters(fixture, &invalid).await.iter().sum();
    assert!((least..=most).contains(&at_crash), "{at_crash} dead letters at the crash");
    eventually("the message has left the queue", SETTLED_WITHIN, || async {
        fixture.message("TRANSACTION", sequence).await.is_none().then_some(())
    })
    .await;
    assert_eq!(letters(fixture, &invalid).await, [1; 5]);
    fixture.settled_once(&account, &[record], 10).await;
}

/// The numbers of dead letters of these commands.
async fn letters(fixture: &Fixture, commands: &[Value]) -> Vec<usize> {
    let letters = broker::dead_letters(&fixture.jetstream).await;
    let bodies = commands.iter().map(ToString::to_string);
    bodies
        .map(|body| letters.iter().filter(|letter| letter.body == body.as_bytes()).count())
        .collect()
}

/// A message with four commands whose deliveries have reached the maximum.
pub(super) async fn bundle_at_max_deliveries(fixture: &Fixture, turn: Turn<'_>, at_crash: usize) {
    // An unknown account: if a command were processed after all, `verify` would find it.
    let account = new_key();
    let commands = [(); 4].map(|()| command(&new_key(), &account, "WITHDRAWAL", 40));
    let message = json!({ "commands": commands }).to_string();
    let (sequence, _) = turn.crash(&account, exhaust_deliveries(fixture, &message)).await;
    let queued = fixture.message("TRANSACTION", sequence).await.is_some();
    assert!(queued, "the message left the queue before its time");
    let sent: usize = letters(fixture, &commands).await.iter().sum();
    assert_eq!(sent, at_crash, "dead letters at the crash");
    advisory_acked(fixture, fixture.advisory(sequence).await).await;
    let queued = fixture.message("TRANSACTION", sequence).await.is_some();
    assert!(!queued, "the message is still in the queue");
    assert_eq!(letters(fixture, &commands).await, [1; 4]);
}
