//! Rows of webhooks, or a table, that another transaction holds.
//!
//! Such a transaction delays the events of a whole stack. So these tests have one of their own, and
//! take turns.

use std::time::Duration;

use runtime::postgres::{PgPool, PgTransaction};
use serde_json::json;
use sqlx::AssertSqlSafe;
use tests::{Client, Stack, eventually, process::read_log};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use super::{
    Endpoint, SOON, customer, open_accounts,
    receiver::Receiver,
    sealing::{has_present_key, seal_with_earlier_key, stored},
    start,
};

/// Enough for what waits for no held row: a statement would wait for two seconds, again and again.
const IN_TIME: Duration = Duration::from_secs(4);

static STACK: OnceCell<Stack> = OnceCell::const_new();
static TURN: Mutex<()> = Mutex::const_new(());

/// Two owners with an endpoint each. The rows of the first one are to be held.
struct Owners {
    accounts: PgPool,
    clients: [Client; 2],
    receivers: [Receiver; 2],
    endpoints: [Endpoint; 2],
    _turn: MutexGuard<'static, ()>,
}

impl Owners {
    async fn new() -> Self {
        let turn = TURN.lock().await;
        let stack = STACK.get_or_init(|| start("webhooks-held", "1")).await;
        let clients = [customer(stack), customer(stack)];
        let receivers = [Receiver::start().await, Receiver::start().await];
        let endpoints = [
            Endpoint::create(&clients[0], &receivers[0]).await,
            Endpoint::create(&clients[1], &receivers[1]).await,
        ];
        Self { accounts: stack.accounts().await, clients, receivers, endpoints, _turn: turn }
    }

    /// A transaction that holds what this statement locks.
    async fn hold(&self, lock: &str) -> PgTransaction {
        let mut holder = self.accounts.begin().await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut *holder).await.unwrap();
        holder
    }

    async fn hold_endpoint(&self) -> PgTransaction {
        let row = "SELECT FROM webhook_endpoints WHERE id";
        self.hold(&format!("{row} = '{}' FOR UPDATE", self.endpoints[0].id())).await
    }

    /// Waits until a statement like this waits for a lock.
    async fn has_waiting(&self, statement: &str) {
        eventually(&format!("a statement waits: {statement}"), SOON, async || {
            let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity
                         WHERE wait_event_type = 'Lock' AND query LIKE $1)";
            let waits = sqlx::query_scalar(waits).bind(statement);
            let waits: bool = waits.fetch_one(&self.accounts).await.unwrap();
            waits.then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn an_endpoint_whose_row_another_transaction_holds_delays_no_other() {
    let owners = Owners::new().await;
    let [of_held, of_other] = &owners.receivers;
    // The service reads both events at once, and can't announce them yet.
    let horizon = owners.hold("SELECT pg_current_xact_id()").await;
    let held = open_accounts(&owners.clients[0], 1).await;
    let other = open_accounts(&owners.clients[1], 1).await;
    let announcement = owners.hold("LOCK TABLE webhook_fanout IN SHARE MODE").await;
    horizon.rollback().await.unwrap();
    owners.has_waiting("UPDATE webhook_fanout%").await;
    let row = owners.hold_endpoint().await;
    announcement.rollback().await.unwrap();
    of_other.received_all(&other, IN_TIME).await;
    assert!(of_held.deliveries().is_empty());
    row.rollback().await.unwrap();
    of_held.received_all(&held, IN_TIME).await;
}

#[tokio::test]
async fn a_request_that_waits_for_a_held_endpoint_holds_up_no_announcement() {
    let owners = Owners::new().await;
    let cursor = owners.clients[0].get("/v1/events").await.body["nextCursor"].clone();
    let _row = owners.hold_endpoint().await;
    let all = json!({ "after": cursor });
    let (redelivery, ()) = tokio::join!(owners.endpoints[0].post("redeliver", &all), async {
        owners.has_waiting("%webhook_endpoints%").await;
        let row = "SELECT FROM webhook_fanout FOR UPDATE NOWAIT";
        sqlx::raw_sql(row).execute(&owners.accounts).await.unwrap();
    });
    assert_eq!(redelivery.status, 503, "{redelivery:?}");
}

#[tokio::test]
async fn a_secret_whose_row_another_transaction_holds_delays_no_other() {
    let owners = Owners::new().await;
    let (accounts, [first, second]) = (&owners.accounts, &owners.endpoints);
    let ids = [stored(accounts, first).await.0, stored(accounts, second).await.0];
    // In the order of the service.
    let (held, other) = if ids[0] < ids[1] { (first, second) } else { (second, first) };
    let row = "SELECT FROM webhook_secrets WHERE endpoint_id";
    let row = format!("{row} = '{}' FOR UPDATE", held.id());
    let _row = eventually("it is held before it is sealed again", SOON, async || {
        seal_with_earlier_key(accounts, held).await;
        let holder = owners.hold(&row).await;
        (!has_present_key(&stored(accounts, held).await.1)).then_some(holder)
    })
    .await;
    seal_with_earlier_key(accounts, other).await;
    eventually("the other one has the present key", SOON, async || {
        has_present_key(&stored(accounts, other).await.1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_clean_up_leaves_out_a_delivery_whose_redelivery_is_being_requested() {
    let owners = Owners::new().await;
    let (accounts, [held, other]) = (&owners.accounts, &owners.endpoints);
    let given_up = "INSERT INTO webhook_deliveries
                        (endpoint_id, position, attempts, last_error, last_attempt_at)
                    SELECT id, position, 10, 'e', now() - interval '31 days'
                    FROM webhook_endpoints WHERE id = ANY($1)";
    let both = [held.id(), other.id()];
    sqlx::query(given_up).bind(&both[..]).execute(accounts).await.unwrap();
    let again = "UPDATE webhook_deliveries SET next_attempt_at = now() + interval '1 hour'";
    let again = format!("{again} WHERE endpoint_id = '{}'", held.id());
    let redelivery = owners.hold(&again).await;
    let is_kept = async |endpoint: &Endpoint| -> bool {
        let kept = "SELECT EXISTS (SELECT FROM webhook_deliveries WHERE endpoint_id = $1)";
        sqlx::query_scalar(kept).bind(endpoint.id()).fetch_one(accounts).await.unwrap()
    };
    // It looks every minute.
    eventually("the other one is deleted", Duration::from_secs(70), async || {
        (!is_kept(other).await).then_some(())
    })
    .await;
    redelivery.commit().await.unwrap();
    assert!(is_kept(held).await);
}

#[tokio::test]
async fn after_a_turn_that_a_locked_table_ended_an_endpoint_is_served_again_within_seconds() {
    let owners = Owners::new().await;
    let (accounts, endpoint, receiver) =
        (&owners.accounts, &owners.endpoints[0], &owners.receivers[0]);
    receiver.received_all(&open_accounts(&owners.clients[0], 1).await, SOON).await;
    eventually("the delivery is settled", SOON, async || {
        let settled = "SELECT position = announced AND lease_until < now()
                       FROM webhook_endpoints WHERE id = $1";
        let settled = sqlx::query_scalar(settled).bind(endpoint.id());
        let settled: bool = settled.fetch_one(accounts).await.unwrap();
        settled.then_some(())
    })
    .await;
    let secrets = owners.hold("LOCK TABLE webhook_secrets IN ACCESS EXCLUSIVE MODE").await;
    // A new event would wait for the end of the transaction. So the last one is due again.
    let due = "UPDATE webhook_endpoints SET position = position - 1 WHERE id = $1";
    sqlx::query(due).bind(endpoint.id()).execute(accounts).await.unwrap();
    let log = STACK.get().unwrap().dir.join("logs/webhook-service-0.log");
    let id = endpoint.id().to_string();
    eventually("its turn fails", SOON, async || {
        let log = read_log(&log);
        let mut lines = log.lines().filter(|line| line.contains("deliveries failed"));
        lines.any(|line| line.contains(&id)).then_some(())
    })
    .await;
    secrets.rollback().await.unwrap();
    // A lease lasts for a minute.
    receiver.received(2, Duration::from_secs(20)).await;
}
