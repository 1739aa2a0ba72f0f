//! `consistency=ledger`: the ledger's decisions while their results are on the way.

use std::time::Duration;

use reqwest::Method;
use runtime::postgres::{PgPool, PgTransaction};
use tests::{Client, Response, Stack, client::new_key, eventually};
use uuid::Uuid;

use super::{position, query};

/// Locks the records of an account, so that no result settles one.
async fn hold_results(database: &PgPool, account: &str) -> PgTransaction {
    let mut transaction = database.begin().await.unwrap();
    sqlx::query("SELECT id FROM transaction_records WHERE account_id = $1 FOR UPDATE")
        .bind(Uuid::parse_str(account).unwrap())
        .fetch_all(&mut *transaction)
        .await
        .unwrap();
    transaction
}

async fn decided(ledger: &PgPool, account: &str, count: i64) {
    eventually("the ledger decides", Duration::from_secs(20), || async {
        let decided: i64 =
            sqlx::query_scalar("SELECT count(*) FROM transactions WHERE account_id = $1")
                .bind(Uuid::parse_str(account).unwrap())
                .fetch_one(ledger)
                .await
                .unwrap();
        (decided == count).then_some(())
    })
    .await;
}

fn amounts(account: &Response) -> [&str; 4] {
    assert_eq!(account.status, 200, "{account:?}");
    ["balance", "pendingIn", "pendingOut", "available"].map(|field| account.text(field))
}

const LEDGER: &str = "consistency=ledger";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_shows_before_its_result_has_arrived() {
    let stack = Stack::start("ledger-reads").await;
    let client = Client::teller(&stack);
    let (accounts, ledger) = (stack.accounts().await, stack.ledger().await);
    let account = client.open_account("KRW").await;
    client.deposit(&account, "100").await;
    let paused = stack.pause_workers();
    let mut records = Vec::new();
    for (resource, amount) in [("deposits", "30"), ("withdrawals", "50"), ("withdrawals", "999")] {
        let record = client.movement(resource, &account, amount, &new_key(), None).await;
        assert_eq!(record.status, 202, "{record:?}");
        records.push(format!("/v1/records/{}", record.text("recordId")));
    }
    let path = format!("/v1/accounts/{account}");
    let pending = ["100", "30", "1049", "-949"];
    assert_eq!(amounts(&client.get(&path).await), pending);
    assert_eq!(amounts(&query(&client, &path, LEDGER).await), pending);
    let open = query(&client, &records[0], LEDGER).await;
    assert_eq!(open.body, client.get(&records[0]).await.body);
    assert_eq!(open.text("status"), "PENDING");

    let held = hold_results(&accounts, &account).await;
    drop(paused);
    decided(&ledger, &account, 4).await;
    // This service's copy does not know yet.
    let copy = client.get(&path).await;
    assert_eq!(amounts(&copy), pending);
    let now = query(&client, &path, LEDGER).await;
    assert_eq!(amounts(&now), ["80", "0", "0", "80"]);
    assert_eq!(now.body["accountSeq"], 3);
    let tag = now.header("etag").unwrap();
    assert_ne!(Some(tag), copy.header("etag"));
    let known = [("if-none-match", tag)];
    let same = client.send(Method::GET, &format!("{path}?{LEDGER}"), &known, None).await.unwrap();
    assert_eq!(same.status, 304, "{same:?}");
    let other = client.send(Method::GET, &path, &known, None).await.unwrap();
    assert_eq!((other.status, &other.body), (200, &copy.body));
    let balances = format!("{path}/balances");
    assert_eq!(position(&client.get(&balances).await), ("100".to_owned(), 1));
    assert_eq!(position(&query(&client, &balances, LEDGER).await), ("80".to_owned(), 3));

    let mut shown = Vec::new();
    for record in &records {
        assert_eq!(client.get(record).await.text("status"), "PENDING");
        // A decided record is not waited for.
        let wait = [("prefer", "wait=20")];
        let begun = std::time::Instant::now();
        let record = format!("{record}?{LEDGER}");
        shown.push(client.send(Method::GET, &record, &wait, None).await.unwrap());
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
    let sequences = [&shown[0], &shown[1]].map(|record| record.body["accountSeq"].as_i64());
    assert!(sequences == [Some(2), Some(3)] || sequences == [Some(3), Some(2)], "{sequences:?}");
    for record in &shown[..2] {
        assert_eq!(record.text("status"), "SUCCESS", "{record:?}");
        assert!(record.body["balanceAfter"].is_string(), "{record:?}");
    }
    let refused = (shown[2].text("status"), shown[2].text("reason"));
    assert_eq!(refused, ("FAILED", "INSUFFICIENT_FUNDS"));
    // A withdrawal that the ledger has not decided is PENDING there, too.
    let paused = stack.pause_workers();
    client.movement("withdrawals", &account, "7", &new_key(), None).await;
    assert_eq!(amounts(&query(&client, &path, LEDGER).await), ["80", "0", "7", "73"]);
    // Nothing was stored by reading.
    let settled: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM transaction_records WHERE account_id = $1 AND status <> 'PENDING'",
    )
    .bind(Uuid::parse_str(&account).unwrap())
    .fetch_one(&accounts)
    .await
    .unwrap();
    assert_eq!(settled, 1);

    drop(paused);
    held.rollback().await.unwrap();
    for (path, before) in records.iter().zip(&shown) {
        let id = path.rsplit('/').next().unwrap();
        let settled = client.settled(id).await;
        let mut before = before.body.clone();
        before["updatedAt"] = settled.body["updatedAt"].clone();
        assert_eq!(settled.body, before);
        assert_eq!(query(&client, path, LEDGER).await.body, settled.body);
    }
    eventually("the copy follows", Duration::from_secs(20), || async {
        let (copy, now) = (client.get(&path).await, query(&client, &path, LEDGER).await);
        (amounts(&copy) == ["73", "0", "0", "73"] && copy.body == now.body).then_some(())
    })
    .await;
}

/// Reads an account. `meanwhile` happens once the ledger was read, before this service's copy is.
async fn read_around(
    client: &Client,
    accounts: &PgPool,
    path: &str,
    meanwhile: impl AsyncFnOnce(),
) -> Response {
    let mut hold = accounts.begin().await.unwrap();
    let lock = "LOCK TABLE pending_records IN ACCESS EXCLUSIVE MODE";
    sqlx::query(lock).execute(&mut *hold).await.unwrap();
    let (client, path) = (client.clone(), path.to_owned());
    let read = tokio::spawn(async move { client.get(&path).await });
    eventually("the read waits", Duration::from_secs(20), || async {
        let waiting = "SELECT count(*) FROM pg_stat_activity
                       WHERE wait_event_type = 'Lock' AND query LIKE 'WITH ranges%'";
        let waiting: i64 = sqlx::query_scalar(waiting).fetch_one(accounts).await.unwrap();
        (waiting > 0).then_some(())
    })
    .await;
    meanwhile().await;
    hold.rollback().await.unwrap();
    read.await.unwrap()
}

/// Whatever arrives between the reads of the two databases, an accepted withdrawal counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn available_is_never_too_high_while_a_withdrawal_is_on_its_way() {
    let stack = Stack::start("ledger-reads-available").await;
    let client = Client::teller(&stack);
    let (accounts, ledger) = (stack.accounts().await, stack.ledger().await);
    let account = client.open_account("KRW").await;
    client.deposit(&account, "100").await;
    let default = format!("/v1/accounts/{account}");
    let of_ledger = format!("{default}?{LEDGER}");
    // The first read opens a connection.
    eventually("the ledger is read", Duration::from_secs(20), || async {
        (client.get(&of_ledger).await.status == 200).then_some(())
    })
    .await;
    // The withdrawal is accepted, decided and settled.
    for (path, expected) in [(&default, "90"), (&of_ledger, "80")] {
        let shown = read_around(&client, &accounts, path, async || {
            let record = client.withdraw(&account, "10").await;
            assert_eq!(record.text("status"), "SUCCESS", "{record:?}");
        })
        .await;
        assert_eq!(amounts(&shown), [expected, "0", "0", expected], "{path}");
    }
    // It was accepted before; the ledger decides it, and the result does not arrive.
    let paused = stack.pause_workers();
    client.movement("withdrawals", &account, "10", &new_key(), None).await;
    let held = hold_results(&accounts, &account).await;
    let shown = read_around(&client, &accounts, &of_ledger, async || {
        drop(paused);
        decided(&ledger, &account, 4).await;
    })
    .await;
    assert_eq!(amounts(&shown), ["80", "0", "10", "70"]);
    held.rollback().await.unwrap();
}
