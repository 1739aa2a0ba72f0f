//! A client can tell a request that stored nothing from one that may be stored.

use std::time::Duration;

use devstack::Fault;
use futures::future::join_all;
use reqwest::Method;
use runtime::postgres::{DatabaseConfig, PgPool};
use serde_json::json;
use tests::{
    Client, Stack, client::new_key, eventually, invariants, stack::initialized_folder,
    wait::eventually_now,
};

const SOON: Duration = Duration::from_secs(20);
const LINK: &str = "account-service-0/postgres";
/// A connection that was idle for longer than a second is pinged before its use.
const LONGER_THAN_TRUSTED: Duration = Duration::from_millis(1200);

async fn stored(accounts: &PgPool, key: &str) -> bool {
    let stored = "SELECT EXISTS (SELECT FROM transaction_records WHERE idempotency_key = $1)";
    sqlx::query_scalar(stored).bind(key).fetch_one(accounts).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_lost_after_the_commit_gives_an_unknown_outcome_and_a_replay_the_truth() {
    let arguments = ["--port", "0", "--faults", "--webhook-replicas", "1"];
    let stack = Stack::start_in(&initialized_folder("unknown-outcome").await, &arguments).await;
    failed_reads_after_writes_never_say_that_nothing_is_stored(&stack).await;
    let client = Client::teller_at(&stack, "account-service-0");
    let account = client.open_account("KRW").await;
    // The account is cached, so that the next request only writes.
    client.deposit(&account, "1").await;
    let accounts = stack.accounts().await;
    let item = |key: &str| json!({ "accountId": account, "type": "DEPOSIT", "amount": "10", "idempotencyKey": key });
    for in_batch in [false, true] {
        let keys = [new_key(), new_key()];
        stack.fault(LINK, Fault::Delay(1000)).await;
        let request = async {
            if in_batch {
                let items = keys.each_ref().map(|key| item(key));
                client.post("/v1/batches", &[], &json!({ "items": items })).await
            } else {
                client.movement("deposits", &account, "10", &keys[0], None).await
            }
        };
        // The commit is on its way back for a second: the connection is reset meanwhile.
        let cut = async {
            eventually("the record is committed", SOON, || async {
                stored(&accounts, &keys[0]).await.then_some(())
            })
            .await;
            stack.fault(LINK, Fault::Cut).await;
        };
        let (response, ()) = tokio::join!(request, cut);
        assert_eq!((response.status, response.problem()), (503, "outcome-unknown"), "{response:?}");
        assert!(response.header("retry-after").is_some(), "{response:?}");
        stack.fault(LINK, Fault::Pass).await;
        let again = eventually("the key is answered", SOON, || async {
            let again = client.movement("deposits", &account, "10", &keys[0], Some(5)).await;
            (again.status == 200).then_some(again)
        })
        .await;
        assert_eq!(again.header("idempotent-replayed"), Some("true"), "{again:?}");
    }
    client.deposit(&account, "1").await;
    invariants::holds(&stack.ledger().await, "accounts", &account, 32).await.unwrap();
}

/// The statement after the commit, or after the one that has found the idempotency key taken, waits
/// for a lock in vain.
async fn failed_reads_after_writes_never_say_that_nothing_is_stored(stack: &Stack) {
    let (client, key) = (Client::customer(stack, &new_key()), new_key());
    let once = [("idempotency-key", key.as_str())];
    let (account, endpoint) =
        (json!({ "currency": "KRW" }), json!({ "url": "https://example.com/" }));
    let created = client.post("/v1/webhook-endpoints", &once, &endpoint).await;
    let opened = client.post("/v1/accounts", &once, &account).await;
    assert_eq!((created.status, opened.status), (201, 201), "{created:?} {opened:?}");
    let path = created.header("location").unwrap();
    let accounts = stack.accounts().await;
    let mut locks = accounts.begin().await.unwrap();
    let lock = "LOCK TABLE webhook_secrets, pending_records IN ACCESS EXCLUSIVE MODE";
    sqlx::raw_sql(lock).execute(&mut *locks).await.unwrap();
    let headers = [("content-type", "application/json")];
    let change = Some(json!({ "description": "changed" }).to_string().into());
    let (changed, created, opened) = tokio::join!(
        client.send(Method::PATCH, path, &headers, change),
        client.post("/v1/webhook-endpoints", &once, &endpoint),
        client.post("/v1/accounts", &once, &account),
    );
    locks.rollback().await.unwrap();
    for response in [changed.unwrap(), created, opened] {
        let problem = (response.status, response.problem());
        assert_eq!(problem, (503, "outcome-unknown"), "{response:?}");
        assert!(response.header("retry-after").is_some(), "{response:?}");
    }
    assert_eq!(client.get(path).await.body["description"], "changed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_connection_the_response_says_that_nothing_was_stored() {
    let stack = Stack::start_with_faults("nothing-stored").await;
    let client = Client::teller_at(&stack, "account-service-0");
    let account = client.open_account("KRW").await;
    client.deposit(&account, "1").await;
    stack.fault(LINK, Fault::Refuse).await;
    let accounts = stack.accounts().await;
    // The first requests may still use connections of before, which are reset.
    let key = eventually("the pool has no connection", SOON, || async {
        let key = new_key();
        let response = client.movement("deposits", &account, "10", &key, None).await;
        assert_eq!(response.status, 503, "{response:?}");
        (response.problem() == "unavailable").then_some(key)
    })
    .await;
    stack.fault(LINK, Fault::Pass).await;
    client.deposit(&account, "1").await;
    assert!(!stored(&accounts, &key).await);
}

/// A connection that was in use a moment ago is not pinged before its next use. Once one of them is
/// found lost, all are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_connections_that_are_lost_together_one_costs_an_answer() {
    let stack = with_one_replica("lost-together").await;
    let client = Client::teller_at(&stack, "account-service-0");
    for _ in 0..3 {
        // Together they need several connections.
        join_all((0..8).map(|_| client.open_account("KRW"))).await;
        stack.fault(LINK, Fault::Cut).await;
        let mut statuses = Vec::new();
        for _ in 0..8 {
            let won = json!({ "currency": "KRW" });
            statuses.push(client.post("/v1/accounts", &[], &won).await.status);
        }
        let lost = statuses.iter().filter(|status| **status == 503).count();
        let opened = statuses.iter().filter(|status| **status == 201).count();
        assert!(lost <= 1 && lost + opened == 8, "{statuses:?}");
    }
}

/// The ping of an idle connection shows that those in use a moment ago are lost, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_whose_loss_a_ping_shows_cost_no_answer() {
    let stack = with_one_replica("lost-idle").await;
    let environment = format!("/proc/{}/environ", stack.pid("account-service-0"));
    let environment = std::fs::read_to_string(environment).unwrap();
    let mut settings = environment.split('\0');
    // The address is that of the link.
    let url = settings.find_map(|setting| setting.strip_prefix("PASSBOOK_DATABASE_URL="));
    let config = DatabaseConfig {
        database_url: url.unwrap().parse().unwrap(),
        database_connections: 3,
        database_timeout: SOON,
        database_lifetime: Duration::from_secs(120),
    };
    let pool = runtime::postgres::pool(&config, "pings").unwrap();
    drop(join_all([pool.acquire(), pool.acquire(), pool.acquire()]).await);
    let all_are_idle =
        || eventually_now("all are idle", SOON, || (pool.num_idle() == 3).then_some(()));
    all_are_idle().await;
    tokio::time::sleep(LONGER_THAN_TRUSTED).await;
    let select = || sqlx::query_scalar::<_, i32>("SELECT 1").fetch_one(&pool);
    // The one that was idle for longest is used.
    select().await.unwrap();
    all_are_idle().await;
    stack.fault(LINK, Fault::Cut).await;
    for _ in 0..3 {
        assert_eq!(select().await.unwrap(), 1);
    }
}

async fn with_one_replica(name: &str) -> Stack {
    let replicas = ["--account-replicas", "1", "--transaction-replicas", "1"];
    let arguments = [&["--port", "0", "--faults"], &replicas[..]].concat();
    Stack::start_in(&initialized_folder(name).await, &arguments).await
}
