//! Many concurrent clients: every record settles, and every balance is exact.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::future::join_all;
use rand::RngExt;
use rust_decimal::Decimal;
use sqlx::Row;
use tests::{Client, Stack, client::new_key, decimal, eventually, invariants};
use tokio::sync::Mutex;
use uuid::Uuid;

const DEPOSITS: usize = 10_000;
const CLIENTS: usize = 32;
const ACCOUNTS: usize = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_random_deposits_all_succeed_and_add_up() {
    let stack = Stack::shared().await;
    let client = Client::teller(stack);
    let currencies = ["KRW", "USD", "KWD", "CLF"];
    let mut accounts = Vec::new();
    for at in 0..ACCOUNTS {
        let places = u32::try_from([0, 2, 3, 4][at % 4]).unwrap();
        accounts.push((client.open_account(currencies[at % 4]).await, places));
    }
    let accounts = Arc::new(accounts);
    let sums = Arc::new(Mutex::new(HashMap::<String, (Decimal, i64)>::new()));
    let deposit = |client: Client,
                   accounts: Arc<Vec<(String, u32)>>,
                   sums: Arc<Mutex<HashMap<_, _>>>| async move {
        let mut records = Vec::new();
        for _ in 0..DEPOSITS / CLIENTS + 1 {
            let (account, amount) = {
                let mut random = rand::rng();
                let (account, places) = &accounts[random.random_range(0..ACCOUNTS)];
                (account, Decimal::new(random.random_range(1..=99_999_999), *places))
            };
            let key = new_key();
            let response =
                client.movement("deposits", account, &amount.to_string(), &key, None).await;
            assert_eq!(response.status, 202, "{response:?}");
            records.push(response.text("recordId").to_owned());
            let mut sums = sums.lock().await;
            let (sum, seq): &mut (Decimal, i64) = sums.entry(account.clone()).or_default();
            *sum += amount;
            *seq += 1;
        }
        records
    };
    let clients = (0..CLIENTS)
        .map(|_| tokio::spawn(deposit(client.clone(), Arc::clone(&accounts), Arc::clone(&sums))));
    let records: Vec<String> =
        join_all(clients).await.into_iter().flat_map(Result::unwrap).collect();
    assert!(records.len() >= DEPOSITS);
    let ids: Vec<_> = records.iter().map(|id| Uuid::parse_str(id).unwrap()).collect();
    let database = stack.accounts().await;
    eventually("every record is SUCCESS", Duration::from_secs(60), || async {
        let settled: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM transaction_records WHERE status = 'SUCCESS' AND id = ANY($1)",
        )
        .bind(&ids)
        .fetch_one(&database)
        .await
        .unwrap();
        (usize::try_from(settled).unwrap() == ids.len()).then_some(())
    })
    .await;
    let ledger = stack.ledger().await;
    for (account, (sum, seq)) in sums.lock().await.iter() {
        let shown = client.account(account).await;
        assert_eq!(decimal(&shown.body["balance"]), *sum, "{account}");
        assert_eq!(shown.body["accountSeq"], *seq, "{account}");
        let rows = sqlx::query(
            "SELECT account_seq FROM transactions WHERE account_id = $1 ORDER BY account_seq",
        )
        .bind(Uuid::parse_str(account).unwrap())
        .fetch_all(&ledger)
        .await
        .unwrap();
        let numbers: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(numbers, (1..=*seq).collect::<Vec<_>>(), "{account}");
    }
    invariants::assert_verified(stack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_ten_withdrawals_at_once_exactly_those_that_fit_succeed() {
    let client = Client::teller(Stack::shared().await);
    let account = client.open_account("USD").await;
    client.deposit(&account, "100.00").await;
    let withdrawals = (0..10).map(|_| client.withdraw(&account, "30.00"));
    let settled = join_all(withdrawals).await;
    let count = |status| settled.iter().filter(|record| record.text("status") == status).count();
    assert_eq!((count("SUCCESS"), count("FAILED")), (3, 7), "{settled:?}");
    let mut refused = settled.iter().filter(|record| record.text("status") == "FAILED");
    assert!(refused.all(|record| record.text("reason") == "INSUFFICIENT_FUNDS"));
    let shown = client.account(&account).await;
    assert_eq!((shown.text("balance"), &shown.body["accountSeq"]), ("10.00", &4.into()));
}
