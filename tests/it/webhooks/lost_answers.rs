//! Commits of the webhook-service whose answers are lost.
//!
//! A commit waits for a standby that does not exist. Then PostgreSQL ends its session: what it wrote
//! is stored, and its client does not know. Meanwhile, every commit of the server waits. So these
//! tests have a stack of their own, and take turns.

use std::time::Duration;

use runtime::postgres::PgPool;
use sqlx::AssertSqlSafe;
use tests::{Stack, eventually, metrics::Scrape, process::read_log};
use tokio::sync::{Mutex, OnceCell};

use super::{Endpoint, SOON, customer, open_accounts, receiver::Receiver, start_with};

/// Enough for a service that knows what to do. A lease lasts for a minute.
const IN_TIME: Duration = Duration::from_secs(20);

static STACK: OnceCell<Stack> = OnceCell::const_new();
static TURN: Mutex<()> = Mutex::const_new(());

async fn stack() -> &'static Stack {
    let settings = ["PASSBOOK_WEBHOOK_TIMEOUT=20s".to_owned()];
    let start = start_with("webhooks-lost-answers", &["--webhook-replicas", "1"], &settings);
    STACK.get_or_init(|| start).await
}

/// Lets commits wait for a standby, or no longer.
async fn hold_commits(accounts: &PgPool, held: bool) {
    let standby = if held { "absent" } else { "" };
    let change = format!("ALTER SYSTEM SET synchronous_standby_names = '{standby}'");
    for statement in [change.as_str(), "SELECT pg_reload_conf()"] {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(accounts).await.unwrap();
    }
}

/// Ends the session of the webhook-service whose statement like this waits for the standby. Gives
/// whether there was one.
async fn end_waiting(accounts: &PgPool, statement: &str) -> bool {
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
               WHERE usename = 'webhook_service' AND wait_event = 'SyncRep' AND query LIKE $1";
    let ended: i64 = sqlx::query_scalar(end).bind(statement).fetch_one(accounts).await.unwrap();
    ended > 0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_is_disabled_is_counted_once_though_the_answer_to_the_commit_is_lost() {
    let _turn = TURN.lock().await;
    let stack = stack().await;
    let (ann, receiver, accounts) =
        (customer(stack), Receiver::start().await, stack.accounts().await);
    let endpoint = Endpoint::create(&ann, &receiver).await;
    receiver.answer(410);
    // By then, commits wait.
    receiver.answer_after(Duration::from_secs(3));
    open_accounts(&ann, 1).await;
    receiver.received(1, SOON).await;
    hold_commits(&accounts, true).await;
    eventually("the answer to the settlement is lost", SOON, async || {
        end_waiting(&accounts, "COMMIT").await.then_some(())
    })
    .await;
    hold_commits(&accounts, false).await;
    eventually("it is counted", IN_TIME, async || {
        let metrics = Scrape::of(stack, "webhook-service-0").await;
        let disabled = "passbook_webhook_endpoints_disabled_total";
        (metrics.sum(disabled, &[("because", "gone")]) == Some(1.0)).then_some(())
    })
    .await;
    let log = read_log(&stack.dir.join("logs/webhook-service-0.log"));
    let lines = log.lines().filter(|line| line.contains("a webhook endpoint was disabled"));
    assert_eq!(lines.count(), 1, "{log}");
    let entries = "SELECT count(*) FROM audit_log
                   WHERE action = 'webhook-endpoint.disabled' AND resource = $1";
    let entries = sqlx::query_scalar(entries).bind(&endpoint.path);
    let entries: i64 = entries.fetch_one(&accounts).await.unwrap();
    assert_eq!((entries, receiver.deliveries().len()), (1, 1));
    assert_eq!(endpoint.show().await["disabledBecause"], "gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_is_claimed_again_soon_though_the_answer_to_its_claim_is_lost() {
    let _turn = TURN.lock().await;
    let stack = stack().await;
    let (ann, receiver, accounts) =
        (customer(stack), Receiver::start().await, stack.accounts().await);
    let endpoint = Endpoint::create(&ann, &receiver).await;
    receiver.received_all(&open_accounts(&ann, 1).await, SOON).await;
    // The last event is due again. This commit waits for no standby.
    let due = format!(
        "BEGIN;
         SET LOCAL synchronous_commit = local;
         UPDATE webhook_endpoints SET position = position - 1
         WHERE id = (SELECT id FROM webhook_endpoints
                     WHERE id = '{}' AND position = announced AND lease_until < clock_timestamp()
                     FOR UPDATE SKIP LOCKED);
         COMMIT",
        endpoint.id()
    );
    hold_commits(&accounts, true).await;
    // The first claims may not wait yet.
    eventually("the answer to a claim is lost", SOON, async || {
        if end_waiting(&accounts, "UPDATE webhook_endpoints%SET fence%").await {
            return Some(());
        }
        sqlx::raw_sql(AssertSqlSafe(due.clone())).execute(&accounts).await.unwrap();
        None
    })
    .await;
    let before = receiver.deliveries().len();
    hold_commits(&accounts, false).await;
    receiver.received(before + 1, IN_TIME).await;
}
