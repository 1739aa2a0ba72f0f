//! Clients that deposit while the system breaks, and repeat what was not answered.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use runtime::postgres::{PgPool, PgTransaction};
use sqlx::{Connection, PgConnection};
use tokio::{task::JoinHandle, time::Instant};
use uuid::Uuid;

use crate::{Client, Stack, broker, client::new_key, eventually, invariants, wait};

/// The pause of a client between two requests.
const PAUSE: Duration = Duration::from_millis(30);
/// A client gives up a request after this time. It repeats it with the same key.
const TIMEOUT: Duration = Duration::from_secs(8);

/// Clients that deposit 1 again and again into an account of their own.
#[derive(Debug)]
pub struct Depositors {
    pub account: String,
    /// The account of [`Depositors::settles`].
    other: String,
    client: Client,
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<u64>>,
}

impl Depositors {
    /// Opens the account and starts the clients.
    pub async fn start(stack: &Stack, clients: usize) -> Self {
        let file = stack.file();
        let client = Client::with_timeout(&file.api, &file.tokens.teller, TIMEOUT);
        let account = client.open_account("KRW").await;
        let other = client.open_account("KRW").await;
        let stop = Arc::new(AtomicBool::new(false));
        let deposit = |_| {
            let (client, account, stop) = (client.clone(), account.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut accepted = 0;
                while !stop.load(Ordering::Relaxed) {
                    deposit_once(&client, &account).await;
                    accepted += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                accepted
            })
        };
        let clients = (0..clients).map(deposit).collect();
        Self { account, other, client, stop, clients }
    }

    /// Waits until a deposit into another account is settled. Gives the time it took.
    pub async fn settles(&self, within: Duration) -> Duration {
        let (key, begun) = (new_key(), Instant::now());
        eventually("a deposit is settled", within, || async {
            let asked = self.client.try_movement("deposits", &self.other, "1", &key, Some(2));
            (asked.await.ok()?.text("status") == "SUCCESS").then_some(())
        })
        .await;
        begun.elapsed()
    }

    /// Locks the account's row in the database of this service, and waits until a worker of the
    /// service waits for the row. The lock ends with the transaction.
    pub async fn lock(&self, database: &PgPool, service: &str, within: Duration) -> PgTransaction {
        let account = Uuid::parse_str(&self.account).unwrap();
        // The ledger has no such row before the first deposit. Without the lock of the key, new
        // records do not wait.
        let holder = eventually("the account's row is locked", within, || async {
            let mut holder = database.begin().await.unwrap();
            let lock = sqlx::query("SELECT FROM accounts WHERE account_id = $1 FOR NO KEY UPDATE");
            let row = lock.bind(account).fetch_optional(&mut *holder).await.unwrap();
            row.map(|_| holder)
        })
        .await;
        wait::for_lock(database, service, within).await;
        holder
    }

    /// Ends the load. Checks that every accepted deposit settles within the time, once, and that no
    /// message became a dead letter. Gives the number of deposits.
    pub async fn finish(self, stack: &Stack, within: Duration) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let clients = tokio::time::timeout(within, join_all(self.clients)).await;
        let clients = clients.expect("every request is accepted in the end");
        let accepted: u64 = clients.into_iter().map(Result::unwrap).sum();
        let mut database = PgConnection::connect(&stack.file().databases.account).await.unwrap();
        let pending = "SELECT count(*) FROM transaction_records WHERE status = 'PENDING'";
        let begun = Instant::now();
        loop {
            let count: i64 = sqlx::query_scalar(pending).fetch_one(&mut database).await.unwrap();
            if count == 0 {
                break;
            }
            assert!(begun.elapsed() < within, "{count} records are PENDING");
            tokio::time::sleep(PAUSE).await;
        }
        let ledger = stack.ledger().await;
        invariants::holds(&ledger, "accounts", &self.account, accepted).await.unwrap();
        let jetstream = broker::connect(stack).await;
        assert_eq!(broker::dead_letters(&jetstream).await, []);
        invariants::assert_verified(stack).await;
        accepted
    }
}

/// Repeats one request until it is accepted.
async fn deposit_once(client: &Client, account: &str) {
    let key = new_key();
    loop {
        match client.try_movement("deposits", account, "1", &key, None).await {
            Ok(response) if matches!(response.status, 200 | 202) => return,
            Ok(response) => assert!(response.status >= 500, "{response:?}"),
            Err(_) => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}
