//! What happens around a crash: the traffic that leads to it, what it must
//! leave, and how all of it must end.

use std::time::Duration;

use futures::future::join_all;
use reqwest::Method;
use serde_json::json;
use tests::{Client, client::new_key, eventually};
use uuid::Uuid;

use super::{
    letters::{poison_command, poison_result, used_up_command, used_up_result},
    rig::{ACCOUNT, Crash, Rig, SETTLED_WITHIN, Turn},
};

/// What is around a crash.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scenario {
    /// The process dies while a client waits for its answer.
    Accepting,
    /// That many deposits are made at a time.
    Deposits(u64, Left),
    /// A withdrawal of 40 from an account that holds 100.
    Withdrawal,
    /// A withdrawal that was refused when the process died; money arrives
    /// before its command comes again.
    Refused,
    /// Withdrawals of more than an account holds, one of which it has the money
    /// for, beside deposits to others.
    Overdrawn,
    /// A withdrawal from an account that the ledger has not met.
    Empty,
    /// A result that is told again after it has settled its record.
    Repeated,
    /// That many records whose commands were never sent.
    Unsent(usize, About),
    /// One, and a client waits for it at each replica.
    Waiting,
    /// A deposit that the ledger can't store, in a batch with others.
    OneByOne,
    /// A message that is no command.
    PoisonCommand(Letters),
    /// A message that is no result.
    PoisonResult(Letters),
    /// A command whose deliveries are used up.
    UsedUpCommand(Letters),
    /// A result of which an advisory says so.
    UsedUpResult(Letters),
}

/// What a crash must leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// A record whose command never got into the stream.
    UnsentCommand,
    /// A record whose command did.
    SentCommand,
    /// An unacked command.
    UnackedCommand,
    /// An unacked result.
    UnackedResult,
    /// That depends on how fast the broker was, or on what of a batch was in hand.
    Depends,
}

/// What is said of unsent records to arm a point for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    /// Their account; the redrive's commands were not sent before the crash.
    Account,
    /// The message id of the first one's redrive, which was not sent either.
    Redrive,
    /// The same; it was sent.
    SentRedrive,
}

/// How many dead letters there are right after the crash. In the end there is
/// one.
pub(super) type Letters = usize;

impl Scenario {
    /// Runs it under the name of its test.
    pub(super) async fn run(self, name: &'static str, crash: Crash) {
        let rig = Rig::get().await;
        let turn = rig.turn(name, crash).await;
        match self {
            Self::Accepting => accepting(rig, turn).await,
            Self::Deposits(many, left) => deposits(rig, turn, many, left).await,
            Self::Withdrawal => withdrawal(rig, turn).await,
            Self::Refused => refused(rig, turn).await,
            Self::Overdrawn => overdrawn(rig, turn).await,
            Self::Empty => empty(rig, turn).await,
            Self::Repeated => repeated(rig, turn).await,
            Self::Unsent(many, about) => unsent(rig, turn, many, about).await,
            Self::Waiting => waiting(rig, turn).await,
            Self::OneByOne => one_by_one(rig, turn).await,
            Self::PoisonCommand(letters) => poison_command(rig, turn, letters).await,
            Self::PoisonResult(letters) => poison_result(rig, turn, letters).await,
            Self::UsedUpCommand(letters) => used_up_command(rig, turn, letters).await,
            Self::UsedUpResult(letters) => used_up_result(rig, turn, letters).await,
        }
    }
}

async fn accepting(rig: &Rig, turn: Turn<'_>) {
    let account = rig.open_account().await;
    let replica = Client::teller_at(&rig.stack, "account-service-0");
    let path = format!("/v1/accounts/{account}/deposits");
    let key = new_key();
    let body = json!({ "amount": "10" });
    let headers = [("content-type", "application/json"), ("idempotency-key", key.as_str())];
    let name = turn.name;
    let broken = eventually("the connection breaks", Duration::from_secs(10), || async {
        let sent = replica.send(Method::POST, &path, &headers, Some(body.to_string().into())).await;
        match sent {
            Ok(answer) => panic!("the process that had to die answers {answer:?}"),
            // It may be just back from another crash.
            Err(_) => rig.reached(name).map(drop),
        }
    });
    turn.crash(&account, broken).await;
    let again = rig.ask(Method::POST, &path, &key, Some(&body)).await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"), "{again:?}");
    let record = again.text("recordId").to_owned();
    rig.settled_once(&account, &[record], 10).await;
    let stored: i64 =
        sqlx::query_scalar("SELECT count(*) FROM transaction_records WHERE account_id = $1")
            .bind(Uuid::parse_str(&account).unwrap())
            .fetch_one(&rig.accounts)
            .await
            .unwrap();
    assert_eq!(stored, 1, "records of one request");
}

async fn deposits(rig: &Rig, turn: Turn<'_>, many: u64, left: Left) {
    let account = rig.open_account().await;
    let name = turn.name;
    let traffic = async {
        let mut records = rig.deposits(&account, many).await;
        // Half a batch takes a batch: on a bad day all of them came one by one.
        while many > 1 && !rig.soon_reached(name).await {
            records.extend(rig.deposits(&account, many).await);
        }
        records
    };
    let (records, _) = turn.crash(&account, traffic).await;
    let record = &records[0];
    if left == Left::UnackedCommand {
        let queued = rig.newest("TRANSACTION", record).await;
        assert!(queued.is_some(), "the command was acked before its time");
    }
    if left == Left::UnackedResult {
        let place = rig.newest("TRANSACTION_RESULT", record).await.unwrap();
        assert!(rig.results_acked_up_to().await < place, "the result was acked");
    }
    rig.settled_once(&account, &records, 10 * i64::try_from(records.len()).unwrap()).await;
    let told = || rig.results_of(record).contains(record);
    if left == Left::UnsentCommand {
        assert!(!told(), "the command was sent");
    }
    if left == Left::SentCommand {
        let what = "the command that was sent is answered, too";
        eventually(what, SETTLED_WITHIN, async || told().then_some(())).await;
    }
}

async fn withdrawal(rig: &Rig, turn: Turn<'_>) {
    let account = rig.open_account().await;
    rig.accepted("deposits", &account, 100).await;
    rig.settled(&account).await;
    let traffic = rig.accepted("withdrawals", &account, 40);
    let (record, _) = turn.crash(&account, traffic).await;
    assert!(rig.newest("TRANSACTION", &record).await.is_some(), "the command was acked");
    rig.settled(&account).await;
    let settled = rig.ask(Method::GET, &format!("/v1/records/{record}"), "", None).await;
    assert_eq!((settled.text("status"), settled.text("balanceAfter")), ("SUCCESS", "60"));
    let shown = rig.ask(Method::GET, &format!("/v1/accounts/{account}"), "", None).await;
    assert_eq!((shown.text("balance"), &shown.body["accountSeq"]), ("60", &json!(2)));
}

async fn refused(rig: &Rig, turn: Turn<'_>) {
    let account = rig.open_account().await;
    let traffic = rig.accepted("withdrawals", &account, 40);
    let (record, _) = turn.crash(&account, traffic).await;
    // Decided and not told: the next delivery meets an account that has the money.
    rig.accepted("deposits", &account, 100).await;
    rig.settled(&account).await;
    let settled = rig.ask(Method::GET, &format!("/v1/records/{record}"), "", None).await;
    let end = (settled.text("status"), settled.text("reason"));
    assert_eq!(end, ("FAILED", "INSUFFICIENT_FUNDS"), "{settled:?}");
    let decided: Vec<(i64, String)> =
        sqlx::query_as("SELECT id, status FROM transactions WHERE record_id = $1")
            .bind(Uuid::parse_str(&record).unwrap())
            .fetch_all(&rig.ledger)
            .await
            .unwrap();
    let told = settled.body["transactionId"].as_i64().unwrap();
    assert_eq!(decided, [(told, "FAILED".to_owned())]);
    let shown = rig.ask(Method::GET, &format!("/v1/accounts/{account}"), "", None).await;
    assert_eq!((shown.text("balance"), &shown.body["accountSeq"]), ("100", &json!(1)));
}

async fn overdrawn(rig: &Rig, turn: Turn<'_>) {
    let [account, rich] = [rig.open_account().await, rig.open_account().await];
    for account in [&account, &rich] {
        rig.accepted("deposits", account, 100).await;
        rig.settled(account).await;
    }
    let name = turn.name;
    let traffic = async {
        let (mut some, mut others) = (0, 0);
        // What lies in one batch is a matter of luck.
        while some == 0 || !rig.soon_reached(name).await {
            let withdrawals = (0..5).map(|_| rig.accepted("withdrawals", &account, 60));
            let possible = (0..2).map(|_| rig.accepted("withdrawals", &rich, 1));
            join_all(possible.chain(withdrawals)).await;
            (some, others) = (some + 5, others + 2);
        }
        (some, others)
    };
    let ((some, others), _) = turn.crash(&account, traffic).await;
    for (account, ends, balance) in [
        (account, [("FAILED", some - 1), ("SUCCESS", 2)], 40),
        (rich, [("SUCCESS", others + 1), ("", 0)], 100 - others),
    ] {
        rig.settled(&account).await;
        let found: Vec<(String, i64)> = sqlx::query_as(
            "SELECT status, count(*) FROM transactions WHERE account_id = $1
             GROUP BY status ORDER BY status",
        )
        .bind(Uuid::parse_str(&account).unwrap())
        .fetch_all(&rig.ledger)
        .await
        .unwrap();
        let ends = ends.into_iter().filter(|(_, many)| *many > 0);
        assert_eq!(found, ends.map(|(end, many)| (end.to_owned(), many)).collect::<Vec<_>>());
        let shown = rig.ask(Method::GET, &format!("/v1/accounts/{account}"), "", None).await;
        assert_eq!(shown.text("balance"), balance.to_string());
    }
}

async fn empty(rig: &Rig, turn: Turn<'_>) {
    let account = rig.open_account().await;
    let traffic = rig.accepted("withdrawals", &account, 40);
    let (record, _) = turn.crash(&account, traffic).await;
    rig.settled(&account).await;
    let settled = rig.ask(Method::GET, &format!("/v1/records/{record}"), "", None).await;
    let end = (settled.text("status"), settled.text("reason"));
    assert_eq!(end, ("FAILED", "INSUFFICIENT_FUNDS"), "{settled:?}");
    // It is there, and usable.
    let record = rig.accepted("deposits", &account, 100).await;
    rig.settled(&account).await;
    let settled = rig.ask(Method::GET, &format!("/v1/records/{record}"), "", None).await;
    assert_eq!((settled.text("status"), settled.text("balanceAfter")), ("SUCCESS", "100"));
}

async fn repeated(rig: &Rig, turn: Turn<'_>) {
    let account = rig.open_account().await;
    let record = rig.accepted("deposits", &account, 10).await;
    rig.settled(&account).await;
    let first = rig.newest("TRANSACTION_RESULT", &record).await.unwrap();
    let told = rig.message("TRANSACTION_RESULT", first).await.unwrap();
    let told = String::from_utf8(told.payload.to_vec()).unwrap();
    let again = rig.publish("transaction.result.deposit", &told);
    let (place, _) = turn.crash(&account, again).await;
    assert!(rig.results_acked_up_to().await < place, "it was acked before its time");
    eventually("it is acked", SETTLED_WITHIN, || async {
        (rig.results_acked_up_to().await >= place).then_some(())
    })
    .await;
    assert_eq!(rig.letters(&told).await, 0);
    rig.settled_once(&account, &[record], 10).await;
}

async fn unsent(rig: &Rig, turn: Turn<'_>, many: usize, about: About) {
    let account = rig.open_account().await;
    // Armed before they are stored: a redrive may find them at once.
    let records = rig.unsent_ids(many);
    let first = format!("{}.1", records[0]);
    let armed_for = if about == About::Account { &account } else { &first };
    let amounts = vec![10; many];
    let stored = rig.store_unsent(&account, &records, &amounts);
    turn.crash(armed_for, stored).await;
    rig.settled_once(&account, &records, 10 * i64::try_from(many).unwrap()).await;
    match about {
        About::Account | About::Redrive => {
            let told_by = rig.results_of(&records[0]);
            assert!(!told_by.contains(&first), "it was sent: {told_by:?}");
        }
        About::SentRedrive => {
            eventually("what was sent is answered, too", SETTLED_WITHIN, || async {
                rig.results_of(&records[0]).contains(&first).then_some(())
            })
            .await;
        }
    }
}

async fn waiting(rig: &Rig, turn: Turn<'_>) {
    rig.both_ready(ACCOUNT).await;
    let account = rig.open_account().await;
    let records = rig.unsent_ids(1);
    let traffic = async {
        rig.store_unsent(&account, &records, &[10]).await;
        let path = format!("/v1/records/{}", records[0]);
        let (path, wait) = (&path, &[("prefer", "wait=30")]);
        join_all([0, 1].map(|number| async move {
            let replica = format!("account-service-{number}");
            let client = Client::teller_at(&rig.stack, &replica);
            (replica, client.send(Method::GET, path, wait, None).await)
        }))
        .await
    };
    let (answers, died) = turn.crash(&records[0], traffic).await;
    for (replica, answer) in answers {
        if replica != died {
            let answer = answer.unwrap();
            assert_eq!(answer.text("status"), "SUCCESS", "{replica} was not told: {answer:?}");
        }
    }
    rig.settled_once(&account, &records, 10).await;
}

async fn one_by_one(rig: &Rig, turn: Turn<'_>) {
    const BAD: i64 = 666;
    let account = rig.open_account().await;
    let records = rig.unsent_ids(50);
    let amounts: Vec<_> = (0..50).map(|at| if at == 25 { BAD } else { 10 }).collect();
    let traffic = async {
        sqlx::query("ALTER TABLE transactions ADD CONSTRAINT not_that CHECK (amount <> 666)")
            .execute(&rig.ledger)
            .await
            .unwrap();
        rig.store_unsent(&account, &records, &amounts).await;
    };
    turn.crash(&account, traffic).await;
    sqlx::query("ALTER TABLE transactions DROP CONSTRAINT not_that")
        .execute(&rig.ledger)
        .await
        .unwrap();
    rig.settled_once(&account, &records, 49 * 10 + BAD).await;
}
