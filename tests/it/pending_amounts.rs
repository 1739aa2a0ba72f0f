//! `pendingIn`, `pendingOut` and `available` of an account.

use std::time::{Duration, Instant};

use serde_json::json;
use tests::{Client, Response, Stack, client::new_key, eventually};

fn amounts(account: &Response) -> [&str; 4] {
    ["balance", "pendingIn", "pendingOut", "available"].map(|field| account.text(field))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pending_movements_show_beside_the_balance_wherever_the_redrive_has_them() {
    let stack = Stack::start("pending-amounts").await;
    let client = Client::teller(&stack);
    let key = new_key();
    let open = async |currency: &str| {
        let headers = [("idempotency-key", key.as_str())];
        client.post("/v1/accounts", &headers, &json!({ "currency": currency })).await
    };
    let opened = open("USD").await;
    assert_eq!(amounts(&opened), ["0.00", "0.00", "0.00", "0.00"]);
    let account = opened.text("accountId");
    let other = client.open_account("KRW").await;
    client.deposit(account, "100").await;
    assert_eq!(amounts(&client.account(account).await), ["100.00", "0.00", "0.00", "100.00"]);

    let paused = stack.pause_workers();
    let mut records = Vec::new();
    for (resource, account, amount) in [
        ("deposits", account, "30.5"),
        ("withdrawals", account, "50"),
        ("withdrawals", account, "70.25"),
        ("deposits", &*other, "7"),
    ] {
        let record = client.movement(resource, account, amount, &new_key(), None).await;
        assert_eq!(record.status, 202, "{record:?}");
        records.push(record.text("recordId").to_owned());
    }
    // At first the records are in the window, then in the range that it has left, then listed.
    let database = stack.accounts().await;
    let pending = ["100.00", "30.50", "120.25", "-20.25"];
    let (begun, mut listed) = (Instant::now(), None);
    while listed.is_none_or(|since: Instant| since.elapsed() < Duration::from_secs(3)) {
        assert_eq!(amounts(&client.account(account).await), pending);
        let count: i64 = sqlx::query_scalar("SELECT count(account_id) FROM pending_records")
            .fetch_one(&database)
            .await
            .unwrap();
        if count == 4 && listed.is_none() {
            listed = Some(Instant::now());
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{count} of 4 are listed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("listed after {:?}", begun.elapsed() - Duration::from_secs(3));
    assert_eq!(amounts(&open("USD").await), pending);
    assert_eq!(amounts(&client.account(&other).await), ["0", "7", "0", "0"]);
    // As a replica of the release before lists them.
    sqlx::query("UPDATE pending_records SET account_id = NULL").execute(&database).await.unwrap();
    assert_eq!(amounts(&client.account(account).await), pending);
    // Listed records that the window, or the range that it has left, has as well count once.
    let both = "UPDATE redrive_window SET left_ceiling = floor,
                    left_floor = '00000000-0000-0000-0000-000000000000'";
    sqlx::query(both).execute(&database).await.unwrap();
    assert_eq!(amounts(&client.account(account).await), pending);
    // Lists leave them out.
    let list = client.get("/v1/accounts").await;
    assert!(list.body["items"][0].get("available").is_none(), "{list:?}");

    drop(paused);
    for record in &records {
        client.settled(record).await;
    }
    let settled = eventually("the balance follows", Duration::from_secs(20), || async {
        let account = client.account(account).await;
        (account.body["accountSeq"].as_i64() >= Some(3)).then_some(account)
    })
    .await;
    let [balance, incoming, outgoing, available] = amounts(&settled);
    assert_eq!((incoming, outgoing, available), ("0.00", "0.00", balance));
}
