//! Rows and keys that another transaction holds, such as a person's in `psql`: they delay their
//! own account, and no other.

use std::time::{Duration, Instant};

use futures::future::join_all;
use runtime::postgres::{PgPool, PgTransaction};
use serde_json::{Value, json};
use tests::{Client, Stack, broker, client::new_key, eventually, invariants, scale::size};
use uuid::Uuid;

const OTHERS: usize = 4;
/// The pause of each other account between two deposits.
const PAUSE: Duration = Duration::from_millis(50);
/// A first batch waits for the lock timeout of two seconds, on each replica.
const LIMIT: Duration = Duration::from_secs(6);

/// How long a row is held.
fn held() -> Duration {
    size(Duration::from_secs(45), Duration::from_secs(8))
}

/// Locks the rows of an account, until the end of the transaction.
async fn locked(database: &PgPool, tables: &[&'static str], account: &str) -> PgTransaction {
    let mut transaction = database.begin().await.unwrap();
    for table in tables {
        let account = Uuid::parse_str(account).unwrap();
        sqlx::query(*table).bind(account).fetch_all(&mut *transaction).await.unwrap();
    }
    transaction
}

const ACCOUNT: &str = "SELECT account_id FROM accounts WHERE account_id = $1 FOR UPDATE";
const RECORDS: &str = "SELECT id FROM transaction_records WHERE account_id = $1 FOR UPDATE";

fn item(account: &str) -> Value {
    json!({ "accountId": account, "type": "DEPOSIT", "amount": "1", "idempotencyKey": new_key() })
}

/// Deposits of 1 into each account, one after the other, for this time: each settles within
/// [`LIMIT`]. Gives the number of deposits into each.
async fn others_settle(client: &Client, accounts: &[String], time: Duration) -> Vec<u64> {
    let begun = Instant::now();
    let deposits = accounts.iter().map(|account| async move {
        let (mut deposits, mut longest) = (0, Duration::ZERO);
        while begun.elapsed() < time {
            let asked = Instant::now();
            let settled = client.deposit(account, "1").await;
            assert_eq!(settled.text("status"), "SUCCESS", "{:?} {settled:?}", begun.elapsed());
            longest = longest.max(asked.elapsed());
            deposits += 1;
            tokio::time::sleep(PAUSE).await;
        }
        (deposits, longest)
    });
    let (deposits, longest): (Vec<_>, Vec<_>) = join_all(deposits).await.into_iter().unzip();
    println!("{deposits:?} deposits of others within {time:?}; the longest took {longest:.2?}");
    assert!(longest.iter().all(|longest| *longest <= LIMIT), "{longest:?}");
    deposits
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_another_transaction_holds_delays_only_its_own_account() {
    let stack = Stack::start("row-locks").await;
    let client = Client::teller(&stack);
    let jetstream = broker::connect(&stack).await;
    let account = client.open_account("KRW").await;
    let others = join_all((0..OTHERS).map(|_| client.open_account("KRW"))).await;
    for account in others.iter().chain([&account]) {
        client.deposit(account, "1").await;
    }
    let mut expected = vec![1; OTHERS];
    let (ledger, accounts) = (stack.ledger().await, stack.accounts().await);
    let both: &[&str] = &[ACCOUNT, RECORDS];
    for (number, (database, tables)) in
        [(&ledger, &[ACCOUNT][..]), (&accounts, both)].into_iter().enumerate()
    {
        // In the account database, the result of this deposit finds its record locked.
        let early = client.movement("deposits", &account, "1", &new_key(), None).await;
        let holder = locked(database, tables, &account).await;
        // The locked account's commands, alone and beside others in a message.
        let alone = client.movement("deposits", &account, "1", &new_key(), None).await;
        let items: Vec<_> = others.iter().chain([&account]).map(|account| item(account)).collect();
        let batch = client.post("/v1/batches", &[], &json!({ "items": items })).await;
        let records: Vec<_> = batch.body["items"].as_array().unwrap().iter().collect();
        let deposits = others_settle(&client, &others, held()).await;
        for (expected, deposits) in expected.iter_mut().zip(deposits) {
            *expected += deposits + 1;
        }
        let record = alone.text("recordId");
        assert_eq!(client.record(record).await.text("status"), "PENDING");
        for (stream, consumer) in
            [("TRANSACTION", "deposit-consumer"), ("TRANSACTION_RESULT", "account-result-consumer")]
        {
            let (_, redelivered) = broker::unacked(&jetstream, stream, consumer).await;
            assert_eq!(redelivered, 0, "{consumer}: a lock uses up no delivery");
        }
        holder.rollback().await.unwrap();
        assert_eq!(client.settled(early.text("recordId")).await.text("status"), "SUCCESS");
        assert_eq!(client.settled(record).await.text("status"), "SUCCESS");
        for record in records {
            let settled = client.settled(record["record"]["recordId"].as_str().unwrap()).await;
            assert_eq!(settled.text("status"), "SUCCESS");
        }
        let balance = 4 + 3 * u64::try_from(number).unwrap();
        invariants::holds(&ledger, "accounts", &account, balance).await.unwrap();
    }
    for (other, expected) in others.iter().zip(&expected) {
        invariants::holds(&ledger, "accounts", other, *expected).await.unwrap();
    }
    assert_eq!(broker::dead_letters(&jetstream).await.len(), 0);
    invariants::assert_verified(&stack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_another_transaction_inserts_delays_only_its_own_request() {
    let stack = Stack::start("key-locks").await;
    let client = Client::teller_at(&stack, "account-service-0");
    let account = client.open_account("KRW").await;
    let others = join_all((0..OTHERS).map(|_| client.open_account("KRW"))).await;
    let mut holder = stack.accounts().await.begin().await.unwrap();
    let key = new_key();
    sqlx::query(
        "INSERT INTO transaction_records
             (id, account_id, idempotency_key, request_hash, user_id, type, amount, currency)
         VALUES ($1, $2, $3, '', 'teller', 'DEPOSIT', 1, 'KRW')",
    )
    .bind(Uuid::now_v7())
    .bind(Uuid::parse_str(&account).unwrap())
    .bind(&key)
    .execute(&mut *holder)
    .await
    .unwrap();
    // Its client repeats the request, as the response asks for.
    let repeated = async {
        loop {
            let response = client.movement("deposits", &account, "1", &key, None).await;
            assert_eq!((response.status, response.problem()), (503, "unavailable"), "{response:?}");
            assert!(response.header("retry-after").is_some());
        }
    };
    let deposits = tokio::select! {
        deposits = others_settle(&client, &others, held()) => deposits,
        () = repeated => unreachable!(),
    };
    // The one wait for the lock timeout apart, others hardly notice.
    assert!(deposits.iter().all(|deposits| *deposits > 10), "{deposits:?}");
    holder.rollback().await.unwrap();
    let settled = eventually("the key is free", Duration::from_secs(10), || async {
        let response = client.movement("deposits", &account, "1", &key, Some(5)).await;
        (response.status == 200).then_some(response)
    })
    .await;
    assert_eq!(settled.text("status"), "SUCCESS");
    invariants::holds(&stack.ledger().await, "accounts", &account, 1).await.unwrap();
    invariants::assert_verified(&stack).await;
}
