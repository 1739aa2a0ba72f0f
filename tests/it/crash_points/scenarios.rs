//! The traffic that leads to a crash, the state a crash must leave, and the
//! state that must follow from it.

use std::time::Duration;

use futures::future::join_all;
use reqwest::Method;
use serde_json::json;
use tests::{Client, broker, client::new_key, eventually, wait};
use uuid::Uuid;

use super::{
    bundles::{bundle_at_max_deliveries, invalid_parts, messages_of_results, overdrawn_bundle},
    dead_letters::{
        command_at_max_deliveries, invalid_command, invalid_result, result_at_max_deliveries,
    },
    fixture::{ACCOUNT, Crash, Fixture, SETTLED_WITHIN, Turn},
};

#[derive(Debug, Clone, Copy)]
pub(super) enum Scenario {
    /// The process crashes while a client waits for its response.
    Accepting,
    /// This many deposits are requested at a time.
    Deposits(u64, AfterCrash),
    /// A withdrawal of 40 from an account with 100.
    Withdrawal,
    /// A withdrawal is refused before the crash. A deposit arrives before the redelivery of the
    /// command.
    Refused,
    /// Withdrawals that exceed the balance, except for one of them, beside withdrawals from another
    /// account.
    Overdrawn,
    /// A withdrawal from an account not in the ledger yet.
    UnknownAccount,
    /// A result is published again after it has settled its record.
    RepeatedResult,
    /// This many records without a sent command.
    Unsent(usize, ArmedFor),
    /// One such record, and a client waits for it at each replica.
    WaitingClients,
    /// A deposit the ledger can't store, in a batch with others.
    Halves,
    /// A message with withdrawals of which some exceed the balance.
    OverdrawnBundle,
    /// A message with fifty deposits. Their results take several messages.
    MessagesOfResults,
    /// A message with a valid deposit and five invalid commands. The numbers are the least and the
    /// most of their dead letters at the crash.
    InvalidParts(usize, usize),
    /// The number is that of the dead letters at the crash, as for the following scenarios.
    InvalidCommand(usize),
    InvalidResult(usize),
    CommandAtMaxDeliveries(usize),
    ResultAtMaxDeliveries(usize),
    /// A message with four withdrawals.
    BundleAtMaxDeliveries(usize),
}

/// What a crash must leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterCrash {
    /// A PENDING record; its command never reached the stream.
    UnsentCommand,
    /// A PENDING record; its command has reached the stream.
    SentCommand,
    UnackedCommand,
    UnackedResult,
    /// Depends on the speed of the broker, or on the messages in the batch.
    Depends,
}

/// The text that arms a point for unsent records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ArmedFor {
    /// The id of their account. No command is sent before the crash.
    Account,
    /// The message id of the first record's redrive. No command is sent before the crash.
    Redrive,
    /// The message id of the first record's redrive. The command is sent before the crash.
    SentRedrive,
    /// The id of their account. A part of the commands is sent before the crash. Both replicas may
    /// claim some of the records at the same time, so the first record may be claimed alone.
    AccountPartSent,
}

impl Scenario {
    /// Runs the scenario under the name of its test.
    pub(super) async fn run(self, name: &'static str, crash: Crash) {
        let fixture = Fixture::shared().await;
        let turn = fixture.turn(name, crash).await;
        match self {
            Self::Accepting => accepting(fixture, turn).await,
            Self::Deposits(count, after) => deposits(fixture, turn, count, after).await,
            Self::Withdrawal => withdrawal(fixture, turn).await,
            Self::Refused => refused(fixture, turn).await,
            Self::Overdrawn => overdrawn(fixture, turn).await,
            Self::UnknownAccount => unknown_account(fixture, turn).await,
            Self::RepeatedResult => repeated_result(fixture, turn).await,
            Self::Unsent(count, armed_for) => unsent(fixture, turn, count, armed_for).await,
            Self::WaitingClients => waiting_clients(fixture, turn).await,
            Self::Halves => halves(fixture, turn).await,
            Self::OverdrawnBundle => overdrawn_bundle(fixture, turn).await,
            Self::MessagesOfResults => messages_of_results(fixture, turn).await,
            Self::InvalidParts(least, most) => invalid_parts(fixture, turn, (least, most)).await,
            Self::InvalidCommand(at_crash) => invalid_command(fixture, turn, at_crash).await,
            Self::InvalidResult(at_crash) => invalid_result(fixture, turn, at_crash).await,
            Self::CommandAtMaxDeliveries(at_crash) => {
                command_at_max_deliveries(fixture, turn, at_crash).await;
            }
            Self::ResultAtMaxDeliveries(at_crash) => {
                result_at_max_deliveries(fixture, turn, at_crash).await;
            }
            Self::BundleAtMaxDeliveries(at_crash) => {
                bundle_at_max_deliveries(fixture, turn, at_crash).await;
            }
        }
    }
}

async fn accepting(fixture: &Fixture, turn: Turn<'_>) {
    let account = fixture.open_account().await;
    let replica = Client::teller_at(&fixture.stack, "account-service-0");
    let path = format!("/v1/accounts/{account}/deposits");
    let key = new_key();
    let body = json!({ "amount": "10" });
    let headers = [("content-type", "application/json"), ("idempotency-key", key.as_str())];
    let name = turn.name;
    let broken = eventually("the connection breaks", Duration::from_secs(10), || async {
        let sent = replica.send(Method::POST, &path, &headers, Some(body.to_string().into())).await;
        match sent {
            Ok(response) => panic!("no crash before the response: {response:?}"),
            // The replica may be down from another crash.
            Err(_) => fixture.reached(name).map(drop),
        }
    });
    turn.crash(&account, broken).await;
    let again = fixture.request(Method::POST, &path, &key, Some(&body)).await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"), "{again:?}");
    let record = again.text("recordId").to_owned();
    fixture.settled_once(&account, &[record], 10).await;
    let stored: i64 =
        sqlx::query_scalar("SELECT count(*) FROM transaction_records WHERE account_id = $1")
            .bind(Uuid::parse_str(&account).unwrap())
            .fetch_one(&fixture.accounts)
            .await
            .unwrap();
    assert_eq!(stored, 1, "the number of records of one request");
}

async fn deposits(fixture: &Fixture, turn: Turn<'_>, count: u64, after: AfterCrash) {
    let account = fixture.open_account().await;
    let name = turn.name;
    let traffic = async {
        let mut records = fixture.deposits(&account, count).await;
        // A crash at half of a batch needs a batch, but the deposits may arrive one by one.
        while count > 1 && !fixture.reached_soon(name).await {
            records.extend(fixture.deposits(&account, count).await);
        }
        records
    };
    let (records, _) = turn.crash(&account, traffic).await;
    let record = &records[0];
    if after == AfterCrash::UnackedCommand {
        let queued = fixture.newest("TRANSACTION", record).await;
        assert!(queued.is_some(), "the command was acked before its time");
    }
    if after == AfterCrash::UnackedResult {
        let sequence = fixture.newest("TRANSACTION_RESULT", record).await.unwrap();
        let ack_floor = fixture.results_ack_floor().await;
        assert!(ack_floor < sequence, "the result was acked before its time");
    }
    fixture.settled_once(&account, &records, 10 * i64::try_from(records.len()).unwrap()).await;
    // The result has the message id of its command: the record id, unless it was redriven.
    let first_command_answered = || fixture.results_of(record).contains(record);
    if after == AfterCrash::UnsentCommand {
        assert!(!first_command_answered(), "the command was sent");
    }
    if after == AfterCrash::SentCommand {
        wait::eventually_now("the sent command is answered, too", SETTLED_WITHIN, || {
            first_command_answered().then_some(())
        })
        .await;
    }
}

async fn withdrawal(fixture: &Fixture, turn: Turn<'_>) {
    let account = fixture.open_account().await;
    fixture.accepted("deposits", &account, 100).await;
    fixture.settled(&account).await;
    let traffic = fixture.accepted("withdrawals", &account, 40);
    let (record, _) = turn.crash(&account, traffic).await;
    assert!(fixture.newest("TRANSACTION", &record).await.is_some(), "the command was acked");
    fixture.settled(&account).await;
    let settled = fixture.record(&record).await;
    assert_eq!((settled.text("status"), settled.text("balanceAfter")), ("SUCCESS", "60"));
    let shown = fixture.account(&account).await;
    assert_eq!((shown.text("balance"), &shown.body["accountSeq"]), ("60", &json!(2)));
}

async fn refused(fixture: &Fixture, turn: Turn<'_>) {
    let account = fixture.open_account().await;
    let traffic = fixture.accepted("withdrawals", &account, 40);
    let (record, _) = turn.crash(&account, traffic).await;
    // The refusal is decided but not published. At the redelivery the account has the money.
    fixture.accepted("deposits", &account, 100).await;
    fixture.settled(&account).await;
    let settled = fixture.record(&record).await;
    let end = (settled.text("status"), settled.text("reason"));
    assert_eq!(end, ("FAILED", "INSUFFICIENT_FUNDS"), "{settled:?}");
    let decided: Vec<(i64, String)> =
        sqlx::query_as("SELECT id, status FROM transactions WHERE record_id = $1")
            .bind(Uuid::parse_str(&record).unwrap())
            .fetch_all(&fixture.ledger)
            .await
            .unwrap();
    let transaction: i64 =
        sqlx::query_scalar("SELECT transaction_id FROM transaction_records WHERE id = $1")
            .bind(Uuid::parse_str(&record).unwrap())
            .fetch_one(&fixture.accounts)
            .await
            .unwrap();
    assert_eq!(decided, [(transaction, "FAILED".to_owned())]);
    let shown = fixture.account(&account).await;
    assert_eq!((shown.text("balance"), &shown.body["accountSeq"]), ("100", &json!(1)));
}

async fn overdrawn(fixture: &Fixture, turn: Turn<'_>) {
    let [account, rich] = [fixture.open_account().await, fixture.open_account().await];
    for account in [&account, &rich] {
        fixture.accepted("deposits", account, 100).await;
        fixture.settled(account).await;
    }
    let name = turn.name;
    let traffic = async {
        let (mut large, mut small) = (0, 0);
        // Repeated until a batch holds both kinds.
        while large == 0 || !fixture.reached_soon(name).await {
            let refused = (0..5).map(|_| fixture.accepted("withdrawals", &account, 60));
            let applied = (0..2).map(|_| fixture.accepted("withdrawals", &rich, 1));
            join_all(applied.chain(refused)).await;
            (large, small) = (large + 5, small + 2);
        }
        (large, small)
    };
    let ((large, small), _) = turn.crash(&account, traffic).await;
    for (account, expected, balance) in [
        (account, [("FAILED", large - 1), ("SUCCESS", 2)], 40),
        (rich, [("SUCCESS", small + 1), ("", 0)], 100 - small),
    ] {
        fixture.settled(&account).await;
        let found: Vec<(String, i64)> = sqlx::query_as(
            "SELECT status, count(*) FROM transactions WHERE account_id = $1
             GROUP BY status ORDER BY status",
        )
        .bind(Uuid::parse_str(&account).unwrap())
        .fetch_all(&fixture.ledger)
        .await
        .unwrap();
        let expected = expected.into_iter().filter(|(_, count)| *count > 0);
        let expected = expected.map(|(status, count)| (status.to_owned(), count));
        assert_eq!(found, expected.collect::<Vec<_>>());
        assert_eq!(fixture.account(&account).await.text("balance"), balance.to_string());
    }
}

async fn unknown_account(fixture: &Fixture, turn: Turn<'_>) {
    let account = fixture.open_account().await;
    let traffic = fixture.accepted("withdrawals", &account, 40);
    let (record, _) = turn.crash(&account, traffic).await;
    fixture.settled(&account).await;
    let settled = fixture.record(&record).await;
    let end = (settled.text("status"), settled.text("reason"));
    assert_eq!(end, ("FAILED", "INSUFFICIENT_FUNDS"), "{settled:?}");
    // The account is in the ledger now, and usable.
    let record = fixture.accepted("deposits", &account, 100).await;
    fixture.settled(&account).await;
    let settled = fixture.record(&record).await;
    assert_eq!((settled.text("status"), settled.text("balanceAfter")), ("SUCCESS", "100"));
}

async fn repeated_result(fixture: &Fixture, turn: Turn<'_>) {
    let account = fixture.open_account().await;
    let record = fixture.accepted("deposits", &account, 10).await;
    fixture.settled(&account).await;
    let again = broker::publish_result_alone(&fixture.jetstream, &record);
    let ((body, sequence), _) = turn.crash(&account, again).await;
    let ack_floor = fixture.results_ack_floor().await;
    assert!(ack_floor < sequence, "the result was acked before its time");
    fixture.result_acked(sequence).await;
    assert_eq!(fixture.dead_letters(&body).await, 0);
    fixture.settled_once(&account, &[record], 10).await;
}

async fn unsent(fixture: &Fixture, turn: Turn<'_>, count: usize, armed_for: ArmedFor) {
    let account = fixture.open_account().await;
    // The point is armed before the records are stored: a redrive may claim them at once.
    let records = fixture.unsent_ids(count);
    let first_redrive = format!("{}.1", records[0]);
    let about = match armed_for {
        ArmedFor::Account | ArmedFor::AccountPartSent => &account,
        ArmedFor::Redrive | ArmedFor::SentRedrive => &first_redrive,
    };
    let amounts = vec![10; count];
    let stored = fixture.store_unsent(&account, &records, &amounts);
    turn.crash(about, stored).await;
    fixture.settled_once(&account, &records, 10 * i64::try_from(count).unwrap()).await;
    match armed_for {
        ArmedFor::Account | ArmedFor::Redrive => {
            let results = fixture.results_of(&records[0]);
            assert!(!results.contains(&first_redrive), "the command was sent: {results:?}");
        }
        ArmedFor::SentRedrive | ArmedFor::AccountPartSent => {
            wait::eventually_now("the sent command is answered, too", SETTLED_WITHIN, || {
                fixture.results_of(&records[0]).contains(&first_redrive).then_some(())
            })
            .await;
        }
    }
}

async fn waiting_clients(fixture: &Fixture, turn: Turn<'_>) {
    fixture.both_ready(ACCOUNT).await;
    let account = fixture.open_account().await;
    let records = fixture.unsent_ids(1);
    let traffic = async {
        fixture.store_unsent(&account, &records, &[10]).await;
        let path = format!("/v1/records/{}", records[0]);
        let (path, wait) = (&path, &[("prefer", "wait=30")]);
        join_all([0, 1].map(|number| async move {
            let replica = format!("account-service-{number}");
            let client = Client::teller_at(&fixture.stack, &replica);
            (replica, client.send(Method::GET, path, wait, None).await)
        }))
        .await
    };
    let (responses, crashed) = turn.crash(&records[0], traffic).await;
    for (replica, response) in responses {
        if replica != crashed {
            let response = response.unwrap();
            assert_eq!(
                response.text("status"),
                "SUCCESS",
                "{replica} was not notified: {response:?}"
            );
        }
    }
    fixture.settled_once(&account, &records, 10).await;
}

async fn halves(fixture: &Fixture, turn: Turn<'_>) {
    const REJECTED: i64 = 666;
    let account = fixture.open_account().await;
    let records = fixture.unsent_ids(50);
    let amounts: Vec<_> = (0..50).map(|at| if at == 25 { REJECTED } else { 10 }).collect();
    let traffic = async {
        sqlx::query("ALTER TABLE transactions ADD CONSTRAINT not_that CHECK (amount <> 666)")
            .execute(&fixture.ledger)
            .await
            .unwrap();
        fixture.store_unsent(&account, &records, &amounts).await;
    };
    turn.crash(&account, traffic).await;
    sqlx::query("ALTER TABLE transactions DROP CONSTRAINT not_that")
        .execute(&fixture.ledger)
        .await
        .unwrap();
    fixture.settled_once(&account, &records, 49 * 10 + REJECTED).await;
}
