//! A server's host vanishes without a packet: open connections stay silent for ever, and
//! new ones pass. Everything is back within 30 s, without a restart. A command of `passbook`
//! ends with an error.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use devstack::Fault;
use futures::{StreamExt, future::join_all, stream};
use runtime::postgres::{self, PgPool, parse_url};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tests::{
    Client, Stack, client::new_key, eventually, invariants, process::run_with, scale::size,
    stack::initialized_folder,
};

use crate::{
    reports::statement,
    webhooks::{Endpoint, receiver::Receiver},
};

const SERVICES: [&str; 4] =
    ["account-service-0", "transaction-service-0", "report-service-0", "webhook-service-0"];

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The limit is 30 s. At small size, other tests run concurrently.
fn back_within() -> Duration {
    seconds(size(30, 45))
}

/// One replica of each service: no other one hides an outage.
async fn single_replicas(name: &str) -> Stack {
    let money = ["--account-replicas", "1", "--transaction-replicas", "1"];
    let others = ["--report-replicas", "1", "--webhook-replicas", "1"];
    let arguments = [&["--port", "0", "--faults"], &money[..], &others].concat();
    Stack::start_in(&initialized_folder(name).await, &arguments).await
}

/// Deposits and reads by 32 clients, until `done`. Responses of an outage are ignored.
async fn load(client: &Client, account: &str, done: &AtomicBool) {
    stream::iter(0..32)
        .for_each_concurrent(32, |_| async {
            while !done.load(Ordering::Relaxed) {
                let _ = client.try_movement("deposits", account, "1", &new_key(), None).await;
            }
        })
        .await;
}

async fn deposit_settles(client: &Client, account: &str) -> Option<()> {
    let deposit = client.try_movement("deposits", account, "1", &new_key(), Some(5)).await;
    (deposit.is_ok_and(|response| response.status == 200)).then_some(())
}

/// An account without load, and the receiver of its events.
struct Watched {
    account: String,
    receiver: Receiver,
}

impl Watched {
    async fn start(stack: &Stack) -> Self {
        let (owner, receiver) = (Client::merchant(stack, &new_key()), Receiver::start().await);
        Endpoint::create(&owner, &receiver).await;
        Self { account: owner.open_account("KRW").await, receiver }
    }
}

/// Each service settles a deposit, delivers its event or makes a report, and is ready.
async fn all_serve(stack: &Stack, client: &Client, Watched { account, receiver }: &Watched) {
    let begun = Instant::now();
    let events = receiver.deliveries().len();
    eventually("a deposit settles", back_within(), || deposit_settles(client, account)).await;
    let settled = begun.elapsed();
    let rest = || back_within().saturating_sub(begun.elapsed());
    receiver.received(events + 1, rest()).await;
    let delivered = begun.elapsed();
    eventually("a report is made", rest(), || async {
        let response = client.report(&statement(account, &["csv"]), 5).await;
        (response.body["state"] == "SUCCEEDED").then_some(())
    })
    .await;
    let reported = begun.elapsed();
    for service in SERVICES {
        eventually("the replica is ready", rest(), || async {
            ready(stack, service).await.then_some(())
        })
        .await;
    }
    println!(
        "a deposit settled after {settled:.1?}, its event was delivered after {delivered:.1?}, a \
         report was made after {reported:.1?}"
    );
}

async fn ready(stack: &Stack, service: &str) -> bool {
    let admin = stack.file().processes.into_iter().find(|process| process.name == service);
    let url = format!("{}/readyz", admin.unwrap().admin.unwrap());
    reqwest::get(url).await.is_ok_and(|response| response.status().is_success())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_servers_host_vanished_every_service_is_back_within_30_seconds() {
    let stack = single_replicas("vanished").await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    let (watched, done) = (Watched::start(&stack).await, AtomicBool::new(false));
    let rounds = size(5, 1);
    let vanish = async {
        for (server, round) in (0..rounds).flat_map(|_| ["postgres", "nats"]).zip(1..) {
            tokio::time::sleep(seconds(2)).await;
            stack.fault(&format!("*/{server}"), Fault::Vanish).await;
            println!("round {round}: the host of {server} vanished");
            all_serve(&stack, &client, &watched).await;
        }
        done.store(true, Ordering::Relaxed);
    };
    tokio::join!(load(&client, &account, &done), vanish);
    invariants::assert_verified(&stack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_loses_one_direction_costs_no_money() {
    let stack = single_replicas("one-direction").await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    let (watched, done) = (Watched::start(&stack).await, AtomicBool::new(false));
    let lose = async {
        for server in ["postgres", "nats"] {
            for fault in [Fault::SilenceRequests, Fault::SilenceResponses] {
                let link = format!("*/{server}");
                stack.fault(&link, fault).await;
                tokio::time::sleep(seconds(size(60, 2))).await;
                stack.fault(&link, Fault::Pass).await;
                println!("{fault:?} of {server} ended");
                all_serve(&stack, &client, &watched).await;
            }
        }
        done.store(true, Ordering::Relaxed);
    };
    tokio::join!(load(&client, &account, &done), lose);
    invariants::assert_verified(&stack).await;
}

/// The superuser's URL of a database over the link of the account-service.
fn over_link(stack: &Stack, database: &str) -> String {
    let environment = std::fs::read(format!("/proc/{}/environ", stack.pid(SERVICES[0]))).unwrap();
    let environment = String::from_utf8(environment).unwrap();
    let variables = environment.split('\0').filter_map(|variable| variable.split_once('='));
    let port = |url: &str| url.rsplit_once(':').unwrap().1.split_once('/').unwrap().0.to_owned();
    let (_, linked) =
        variables.into_iter().find(|(name, _)| *name == "PASSBOOK_DATABASE_URL").unwrap();
    let direct = stack.file().databases.account;
    let url = direct.replace(&format!(":{}/", port(&direct)), &format!(":{}/", port(linked)));
    url.replace("/account?", &format!("/{database}?"))
}

/// A transaction that keeps a command waiting.
async fn hold(stack: &Stack, database: &str, lock: &str) -> PgConnection {
    let url = stack.file().databases.account.replace("/account?", &format!("/{database}?"));
    let mut holder = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(format!("BEGIN; {lock}"))).execute(&mut holder).await.unwrap();
    holder
}

/// The ports of clients with an idle connection to this port, and the milliseconds until the server
/// probes each.
fn keepalive_timers(server: u16) -> HashMap<i32, u64> {
    let port = |address: &str| u16::from_str_radix(address.rsplit_once(':')?.1, 16).ok();
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let timers = sockets.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [_, local, remote, _, _, timer, ..] = fields[..] else { return None };
        let ticks = timer.strip_prefix("02:")?;
        let ticks = u64::from_str_radix(ticks, 16).ok()?;
        (port(local)? == server).then_some((i32::from(port(remote)?), ticks * 10))
    });
    timers.collect()
}

/// Waits until the server probes the client of every session of commands and of the reconciliation
/// within 10 s. A vanished client would keep its snapshot for two hours otherwise.
async fn clients_are_probed(stack: &Stack, observer: &PgPool) {
    let options = parse_url(&stack.file().databases.account).unwrap();
    eventually("the clients of all sessions are probed", seconds(10), || async {
        let sessions: Vec<(String, i32)> = sqlx::query_as(
            "SELECT application_name, client_port FROM pg_stat_activity
             WHERE application_name LIKE 'passbook%' OR usename = 'report_reader'",
        )
        .fetch_all(observer)
        .await
        .unwrap();
        let timers = keepalive_timers(options.get_port());
        let is_probed = |port| timers.get(port).is_some_and(|&timer| timer <= 10_000);
        let late: Vec<_> = sessions.iter().filter(|(_, port)| !is_probed(port)).collect();
        println!("{} sessions, not probed: {late:?}", sessions.len());
        late.is_empty().then_some(())
    })
    .await;
    let mut single = postgres::connect(&options).await.unwrap();
    let limit = "SELECT current_setting('idle_in_transaction_session_timeout')";
    let limit: String = sqlx::query_scalar(limit).fetch_one(&mut single).await.unwrap();
    assert_eq!(limit, "6h");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_ends_with_an_error_when_the_host_of_its_database_vanishes() {
    let replicas = ["--account-replicas", "1", "--transaction-replicas", "0"];
    let arguments = ["--port", "0", "--faults", "--report-replicas", "1"];
    let arguments = [&arguments[..], &replicas].concat();
    let stack = Stack::start_in(&initialized_folder("vanished-tool").await, &arguments).await;
    let _holders = [
        // The locks of `migrate` and `provision`.
        hold(&stack, "account", "SELECT pg_advisory_lock(x'706173736d696772'::bigint)").await,
        hold(&stack, "postgres", "SELECT pg_advisory_lock(x'70617373626f6f6b'::bigint)").await,
        // `repair` locks the ledger, and `verify` reads the accounts.
        hold(&stack, "transaction", "LOCK TABLE transactions IN ROW EXCLUSIVE MODE").await,
        hold(&stack, "account", "LOCK TABLE transaction_records IN ACCESS EXCLUSIVE MODE").await,
    ];
    let [account, ledger, server] =
        ["account", "transaction", "postgres"].map(|database| over_link(&stack, database));
    let databases = [
        ("PASSBOOK_ACCOUNT_DATABASE_URL", account.as_str()),
        ("PASSBOOK_TRANSACTION_DATABASE_URL", &ledger),
    ];
    let services = ["ACCOUNT_SERVICE", "TRANSACTION_SERVICE", "REPORT_SERVICE", "AUDITOR"];
    let passwords: Vec<_> = services
        .into_iter()
        .chain(["REPORT_READER", "LEDGER_READER", "WEBHOOK_SERVICE"])
        .map(|role| format!("PASSBOOK_{role}_PASSWORD"))
        .collect();
    let mut provision: Vec<_> = passwords.iter().map(|name| (name.as_str(), "any")).collect();
    provision.push(("PASSBOOK_POSTGRES_URL", &server));
    let commands = [
        (&["migrate"][..], &databases[..1]),
        (&["provision"], &provision),
        (&["repair", "--yes"], &databases),
        (&["verify"], &databases),
    ];
    let body = json!({ "kind": "reconciliation", "formats": ["json"] });
    let reconciliation = Client::teller(&stack).report(&body, 0).await;
    assert_eq!(reconciliation.status, 202, "{reconciliation:?}");
    let vanish = async {
        let observer = stack.accounts().await;
        eventually("all commands wait, and ping the server", seconds(20), || async {
            // `migrate` polls its lock, after its last connection is open.
            // And a reconciliation waits as `verify` does.
            let waiting: (i64, i64, i64) = sqlx::query_as(
                "SELECT count(*) FILTER (WHERE wait_event_type = 'Lock'),
                        count(*) FILTER (WHERE application_name = 'passbook ping'),
                        count(*) FILTER (WHERE query LIKE 'SELECT pg_try_advisory_lock%')
                 FROM pg_stat_activity
                 WHERE application_name LIKE 'passbook%' OR usename = 'report_reader'",
            )
            .fetch_one(&observer)
            .await
            .unwrap();
            (waiting == (4, 4, 1)).then_some(())
        })
        .await;
        clients_are_probed(&stack, &observer).await;
        stack.fault("account-service-0/postgres", Fault::Vanish).await;
        Instant::now()
    };
    let outputs = join_all(commands.iter().map(|(arguments, settings)| async move {
        (run_with(arguments, settings).await, Instant::now())
    }));
    let (outputs, vanished) = tokio::join!(outputs, vanish);
    for ((arguments, _), (output, ended)) in commands.iter().zip(outputs) {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains("has given no answer for 15 s"), "{arguments:?}: {text}");
        let after = ended.duration_since(vanished);
        println!("{arguments:?} ended {after:.1?} after the host vanished");
        assert!(after < seconds(40), "{arguments:?}: {after:?}");
    }
}
