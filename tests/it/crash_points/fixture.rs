//! A stack with services that can be made to crash at a named point, for one
//! account, record or message.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_nats::jetstream::{self, message::StreamMessage};
use futures::{StreamExt, future::join_all};
use reqwest::Method;
use runtime::postgres::PgPool;
use serde_json::{Value, json};
use tests::{
    Client, PendingDeposits, Response, Stack, broker, client::new_key, eventually, stack, wait,
};
use tokio::sync::{MutexGuard, OnceCell};
use uuid::Uuid;

/// Limit from a crash until all records are settled. It covers a redelivery and delays by the
/// crashes of other scenarios.
pub(super) const SETTLED_WITHIN: Duration = Duration::from_secs(90);
/// Longer than the ack wait.
const REACHED_WITHIN: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(30);

pub(super) const ACCOUNT: &str = "account-service";
pub(super) const TRANSACTION: &str = "transaction-service";

/// Where a process of a service has to crash.
#[derive(Debug, Clone, Copy)]
pub(super) struct Crash {
    pub(super) service: &'static str,
    pub(super) point: &'static str,
    /// A text the process must have in hand at that point, besides the text given to
    /// [`Turn::crash`].
    pub(super) with: &'static str,
}

/// The stack of all scenarios, with clients of its parts.
pub(super) struct Fixture {
    pub(super) stack: Stack,
    pub(super) client: Client,
    pub(super) jetstream: jetstream::Context,
    pub(super) ledger: PgPool,
    pub(super) accounts: PgPool,
    /// The directory of armed points: `PASSBOOK_CRASH_POINTS` of the services.
    armed: PathBuf,
    /// One lock a service: only one of its processes crashes at a time.
    turns: [tokio::sync::Mutex<()>; 2],
    /// Message id and record of each published result.
    results: Arc<Mutex<Vec<(String, String)>>>,
}

impl Fixture {
    pub(super) async fn shared() -> &'static Self {
        static SHARED: OnceCell<Fixture> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await
    }

    async fn start() -> Self {
        let dir = stack::initialized_folder("crash-points").await;
        let armed = stack::folder("crash-points-armed");
        for part in ["new", "reached"] {
            fs::create_dir_all(armed.join(part)).unwrap();
        }
        let arguments = ["--port", "0", "--crash-points", armed.to_str().unwrap()];
        // Fifty records then need several messages, for a crash at half of them.
        let settings = ["PASSBOOK_MESSAGE_PARTS=10".to_owned()];
        let stack = Stack::start_under(&dir, &settings, &arguments).await;
        let jetstream = broker::connect(&stack).await;
        let results = Arc::new(Mutex::new(Vec::new()));
        let mut published = broker::results(&jetstream).await;
        let seen = Arc::clone(&results);
        tokio::spawn(async move {
            while let Some(message) = published.next().await {
                let headers = message.headers.as_ref();
                let id = headers.and_then(|headers| headers.get("Nats-Msg-Id"));
                let id = id.map_or("", |id| id.as_str());
                for part in broker::parts(&message.payload) {
                    let id = part["messageId"].as_str().unwrap_or(id).to_owned();
                    if let Some(record) = part["recordId"].as_str() {
                        seen.lock().unwrap().push((id, record.to_owned()));
                    }
                }
            }
        });
        Self {
            client: Client::teller(&stack),
            jetstream,
            ledger: stack.ledger().await,
            accounts: stack.accounts().await,
            stack,
            armed,
            turns: Default::default(),
            results,
        }
    }

    /// Waits for the turn to crash a process of this service.
    pub(super) async fn turn(&self, name: &'static str, crash: Crash) -> Turn<'_> {
        let turn = &self.turns[usize::from(crash.service == ACCOUNT)];
        Turn { fixture: self, name, crash, lock: turn.lock().await }
    }

    /// Waits until both replicas of a service are ready. A scenario with a single message needs
    /// this: if the message went to a replica that has just crashed, nothing would happen until its
    /// redelivery.
    pub(super) async fn both_ready(&self, service: &str) {
        for number in [0, 1] {
            self.stack.replica_ready(&format!("{service}-{number}")).await;
        }
    }

    /// The id of the process that crashed at the point armed under this name.
    pub(super) fn reached(&self, name: &str) -> Option<u32> {
        let files = fs::read_dir(self.armed.join("reached")).unwrap().flatten();
        let mut names = files.map(|file| file.file_name().into_string().unwrap());
        names.find_map(|file| file.strip_prefix(name)?.strip_prefix('.')?.parse().ok())
    }

    /// Whether a process crashes there within three seconds.
    pub(super) async fn reached_soon(&self, name: &str) -> bool {
        let reached = async {
            while self.reached(name).is_none() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(3), reached).await.is_ok()
    }

    /// Sends a request again and again with the same key, until there is a response below 500.
    pub(super) async fn request(
        &self,
        method: Method,
        path: &str,
        key: &str,
        body: Option<&Value>,
    ) -> Response {
        let headers = [("content-type", "application/json"), ("idempotency-key", key)];
        let body = body.map(|body| body.to_string().into_bytes());
        eventually("the request is answered", SOON, || async {
            let sent = self.client.send(method.clone(), path, &headers, body.clone());
            sent.await.ok().filter(|response| response.status < 500)
        })
        .await
    }

    pub(super) async fn open_account(&self) -> String {
        let won = json!({ "currency": "KRW" });
        let response = self.request(Method::POST, "/v1/accounts", &new_key(), Some(&won)).await;
        response.text("accountId").to_owned()
    }

    /// The record as the API shows it.
    pub(super) async fn record(&self, record: &str) -> Response {
        self.request(Method::GET, &format!("/v1/records/{record}"), "", None).await
    }

    /// The account as the API shows it.
    pub(super) async fn account(&self, account: &str) -> Response {
        self.request(Method::GET, &format!("/v1/accounts/{account}"), "", None).await
    }

    /// Requests a movement until it is accepted. Gives the record's id.
    pub(super) async fn accepted(&self, resource: &str, account: &str, amount: u64) -> String {
        let path = format!("/v1/accounts/{account}/{resource}");
        let body = json!({ "amount": amount.to_string() });
        let response = self.request(Method::POST, &path, &new_key(), Some(&body)).await;
        assert!(matches!(response.status, 200 | 202), "{response:?}");
        response.text("recordId").to_owned()
    }

    /// Requests deposits of 10, all at a time. Gives their records' ids.
    pub(super) async fn deposits(&self, account: &str, count: u64) -> Vec<String> {
        join_all((0..count).map(|_| self.accepted("deposits", account, 10))).await
    }

    /// Record ids of a minute ago. The redrive claims such records at once, and before the records
    /// other scenarios have left PENDING meanwhile.
    pub(super) fn unsent_ids(&self, count: usize) -> Vec<String> {
        let a_minute = 60_000_u128 << 80;
        let now = || Uuid::parse_str(&new_key()).unwrap().as_u128();
        (0..count).map(|_| Uuid::from_u128(now() - a_minute).to_string()).collect()
    }

    /// Stores PENDING deposits with these ids and amounts.
    pub(super) async fn store_unsent(&self, account: &str, ids: &[String], amounts: &[i64]) {
        let deposits = ids.iter().map(String::as_str).zip(amounts.iter().copied());
        PendingDeposits::of(account).store(&self.accounts, deposits).await;
    }

    /// Waits until the account's records are settled.
    pub(super) async fn settled(&self, account: &str) {
        eventually("all records are settled", SETTLED_WITHIN, || async {
            let pending: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM transaction_records
                 WHERE account_id = $1 AND status = 'PENDING'",
            )
            .bind(Uuid::parse_str(account).unwrap())
            .fetch_one(&self.accounts)
            .await
            .unwrap();
            (pending == 0).then_some(())
        })
        .await;
    }

    /// Waits until the account's records are settled, then checks in both databases that each of
    /// them has moved its money once. `records` are all records of the account, `total` is their
    /// sum.
    pub(super) async fn settled_once(&self, account: &str, records: &[String], total: i64) {
        self.settled(account).await;
        let account = Uuid::parse_str(account).unwrap();
        let (entries, distinct): (i64, i64) = sqlx::query_as(
            "SELECT count(*), count(DISTINCT record_id) FROM transactions
             WHERE account_id = $1 AND status = 'SUCCESS'",
        )
        .bind(account)
        .fetch_one(&self.ledger)
        .await
        .unwrap();
        let count = i64::try_from(records.len()).unwrap();
        assert_eq!((entries, distinct), (count, count), "transactions of {account}");
        let settled = "SELECT id, transaction_id, balance_after::text FROM transaction_records
             WHERE account_id = $1 AND status = 'SUCCESS' ORDER BY id";
        let decided = "SELECT record_id, id, balance_after::text FROM transactions
             WHERE account_id = $1 ORDER BY record_id";
        let rows = |database, query: &'static str| {
            sqlx::query_as::<_, (Uuid, i64, String)>(query).bind(account).fetch_all(database)
        };
        let settled = rows(&self.accounts, settled).await.unwrap();
        let decided = rows(&self.ledger, decided).await.unwrap();
        let balances = |rows: &[(Uuid, i64, String)]| -> Vec<_> {
            rows.iter()
                .map(|(id, tx, balance)| (*id, *tx, tests::decimal(&json!(balance))))
                .collect()
        };
        assert_eq!(balances(&settled), balances(&decided), "the records and the ledger");
        for database in [&self.accounts, &self.ledger] {
            let row: (i64, i64) = sqlx::query_as(
                "SELECT balance::bigint, account_seq FROM accounts WHERE account_id = $1",
            )
            .bind(account)
            .fetch_one(database)
            .await
            .unwrap();
            assert_eq!(row, (total, count), "balance and number of account {account}");
        }
    }

    /// The message ids of all results published for this record.
    pub(super) fn results_of(&self, record: &str) -> Vec<String> {
        let results = self.results.lock().unwrap();
        let of_record = results.iter().filter(|(_, of)| of == record);
        of_record.map(|(id, _)| id.clone()).collect()
    }

    /// As [`broker::message`].
    pub(super) async fn message(&self, stream: &str, sequence: u64) -> Option<StreamMessage> {
        broker::message(&self.jetstream, stream, sequence).await
    }

    /// As [`broker::newest_with`].
    pub(super) async fn newest(&self, stream: &str, text: &str) -> Option<u64> {
        broker::newest_with(&self.jetstream, stream, text).await
    }

    /// The newest advisory about this message for withdrawals. A result may have the same sequence.
    pub(super) async fn advisory(&self, sequence: u64) -> u64 {
        let text = format!("\"consumer\":\"withdrawal-consumer\",\"stream_seq\":{sequence},");
        let advisory = self.newest("USED_UP", &text).await;
        advisory.unwrap_or_else(|| panic!("no advisory about message {sequence}"))
    }

    /// Publishes a message no service would publish. Gives its sequence.
    pub(super) async fn publish(&self, subject: &str, payload: &str) -> u64 {
        broker::publish(&self.jetstream, subject, &new_key(), payload).await
    }

    /// The number of dead letters with exactly this body.
    pub(super) async fn dead_letters(&self, body: &str) -> usize {
        let dead_letters = broker::dead_letters(&self.jetstream).await;
        dead_letters.iter().filter(|dead_letter| dead_letter.body == body.as_bytes()).count()
    }

    /// The sequence up to which all results are acked.
    pub(super) async fn results_ack_floor(&self) -> u64 {
        let (stream, name) = ("TRANSACTION_RESULT", "account-result-consumer");
        let consumer = broker::consumer(&self.jetstream, stream, name).await;
        consumer.cached_info().ack_floor.stream_sequence
    }

    /// Waits until all results up to this sequence are acked.
    pub(super) async fn result_acked(&self, sequence: u64) {
        eventually("the result is acked", SETTLED_WITHIN, || async {
            (self.results_ack_floor().await >= sequence).then_some(())
        })
        .await;
    }
}

/// A scenario's turn to crash a process of a service.
pub(super) struct Turn<'a> {
    fixture: &'a Fixture,
    pub(super) name: &'static str,
    pub(super) crash: Crash,
    lock: MutexGuard<'a, ()>,
}

impl Turn<'_> {
    /// Arms the point for the text `about`, runs `traffic`, and returns once a process has crashed
    /// there and is started again. Gives the output of `traffic` and the name of the process. The
    /// turn ends at the crash.
    pub(super) async fn crash<T>(
        self,
        about: &str,
        traffic: impl Future<Output = T>,
    ) -> (T, String) {
        let Self { fixture, name, crash, lock } = self;
        let point = fixture.armed.join(crash.point);
        fs::create_dir_all(&point).unwrap();
        let file = fixture.armed.join("new").join(name);
        fs::write(&file, format!("{}\n{about}\n", crash.with)).unwrap();
        fs::rename(file, point.join(name)).unwrap();
        let what = format!("the point {} is reached", crash.point);
        let reached = async {
            let mut processes = HashMap::new();
            let pid = wait::eventually_now(&what, REACHED_WITHIN, || {
                // The stack file does not list a crashed process for long.
                let listed = fixture.stack.file().processes.into_iter();
                processes.extend(listed.map(|process| (process.pid, process.name)));
                fixture.reached(name)
            })
            .await;
            (processes.remove(&pid).unwrap_or_else(|| panic!("there is no process {pid}")), pid)
        };
        let (output, (crashed, pid)) = tokio::join!(traffic, reached);
        assert!(crashed.starts_with(crash.service), "{crashed} has crashed instead");
        // It may do the work before the crash first. Until then the next scenario would find it
        // ready.
        let dead = Path::new("/proc").join(pid.to_string());
        wait::eventually_now(&format!("{crashed} has crashed"), SOON, || {
            (!dead.exists()).then_some(())
        })
        .await;
        drop(lock);
        fixture.stack.restarted(&crashed, pid, SOON).await;
        (output, crashed)
    }
}
