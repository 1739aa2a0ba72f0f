//! A system whose services can be made to crash at a named point, for one
//! account, record or message.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_nats::jetstream::{self, consumer::pull, message::StreamMessage};
use futures::{StreamExt, future::join_all};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::PgPool;
use tests::{Answer, Client, Stack, broker, client::new_key, eventually, stack};
use tokio::sync::{Mutex as Lane, MutexGuard, OnceCell};
use uuid::Uuid;

/// What a test may take from crash to settled: more than a redelivery and what
/// other crashes may hold up.
pub(super) const SETTLED_WITHIN: Duration = Duration::from_secs(90);
/// Longer than the ack wait.
const REACHED_WITHIN: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(30);

pub(super) const ACCOUNT: &str = "account-service";
pub(super) const TRANSACTION: &str = "transaction-service";

/// Where a process of a service is to die: at a point, with all of these texts
/// in what it has in hand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Crash {
    pub(super) service: &'static str,
    pub(super) point: &'static str,
    pub(super) with: &'static str,
}

pub(super) struct Rig {
    pub(super) stack: Stack,
    pub(super) client: Client,
    pub(super) jetstream: jetstream::Context,
    pub(super) ledger: PgPool,
    pub(super) accounts: PgPool,
    folder: PathBuf,
    /// One crash of a service at a time.
    lanes: [Lane<()>; 2],
    /// Message id and record of each result that was published.
    results: Arc<Mutex<Vec<(String, String)>>>,
}

impl Rig {
    /// The one of all scenarios.
    pub(super) async fn get() -> &'static Self {
        static RIG: OnceCell<Rig> = OnceCell::const_new();
        RIG.get_or_init(Self::start).await
    }

    async fn start() -> Self {
        let programs = stack::passbook().with_file_name("crash-points");
        for service in [ACCOUNT, TRANSACTION] {
            let built = |path: &Path| fs::metadata(path).and_then(|it| it.modified()).ok();
            let (ours, plain) = (programs.join(service), programs.with_file_name(service));
            assert!(
                built(&ours).is_some() && built(&ours) >= built(&plain),
                "{} is missing or out of date: `make crash-points` builds it, as does `make test`",
                ours.display()
            );
        }
        let dir = stack::folder("crash-points");
        let folder = stack::folder("crash-points-armed");
        for part in ["new", "reached"] {
            fs::create_dir_all(folder.join(part)).unwrap();
        }
        let armed_in = folder.to_str().unwrap();
        let stack = Stack::start_in(&dir, &["--port", "0", "--crash-points", armed_in]).await;
        let jetstream = broker::connect(&stack).await;
        let results = Arc::new(Mutex::new(Vec::new()));
        let mut published = broker::results(&jetstream).await;
        let seen = Arc::clone(&results);
        tokio::spawn(async move {
            while let Some(message) = published.next().await {
                let id = message.headers.as_ref().and_then(|it| it.get("Nats-Msg-Id"));
                let body: Value = serde_json::from_slice(&message.payload).unwrap_or_default();
                if let (Some(id), Some(record)) = (id, body["recordId"].as_str()) {
                    seen.lock().unwrap().push((id.to_string(), record.to_owned()));
                }
            }
        });
        Self {
            client: Client::teller(&stack),
            jetstream,
            ledger: stack.ledger().await,
            accounts: stack.accounts().await,
            stack,
            folder,
            lanes: Default::default(),
            results,
        }
    }

    /// Waits for a turn to let a process of this service die.
    pub(super) async fn turn(&self, name: &'static str, crash: Crash) -> Turn<'_> {
        let lane = &self.lanes[usize::from(crash.service == ACCOUNT)];
        Turn { rig: self, name, crash, lane: lane.lock().await }
    }

    /// Waits until both processes of a service are ready. A message that only
    /// comes once must not go to one that just died: it would be missing until
    /// it is delivered again.
    pub(super) async fn both_ready(&self, service: &str) {
        for number in [0, 1] {
            let name = format!("{service}-{number}");
            eventually(&format!("{name} is ready"), SOON, || async {
                let process = self.stack.file().processes.into_iter().find(|it| it.name == name)?;
                let probe = Client::new(&process.admin?, "");
                let answer = probe.send(Method::GET, "/readyz", &[], None).await.ok()?;
                (answer.status == 200).then_some(())
            })
            .await;
        }
    }

    /// The process that died at the point armed under this name.
    pub(super) fn reached(&self, name: &str) -> Option<u32> {
        let files = fs::read_dir(self.folder.join("reached")).unwrap().flatten();
        let mut names = files.map(|file| file.file_name().into_string().unwrap());
        names.find_map(|file| file.strip_prefix(name)?.strip_prefix('.')?.parse().ok())
    }

    /// Whether a process dies there within some seconds.
    pub(super) async fn soon_reached(&self, name: &str) -> bool {
        let reached = async {
            while self.reached(name).is_none() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(3), reached).await.is_ok()
    }

    /// A request as a good client makes it: again, until there is an answer.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        key: &str,
        body: Option<&Value>,
    ) -> Answer {
        let headers = [("content-type", "application/json"), ("idempotency-key", key)];
        let body = body.map(|body| body.to_string().into_bytes());
        eventually("it is answered", SOON, || async {
            let sent = self.client.send(method.clone(), path, &headers, body.clone());
            sent.await.ok().filter(|answer| answer.status < 500)
        })
        .await
    }

    pub(super) async fn open_account(&self) -> String {
        let won = json!({ "currency": "KRW" });
        let answer = self.ask(Method::POST, "/v1/accounts", &new_key(), Some(&won)).await;
        answer.text("accountId").to_owned()
    }

    /// Has a movement accepted. Gives the record.
    pub(super) async fn accepted(&self, resource: &str, account: &str, amount: u64) -> String {
        let path = format!("/v1/accounts/{account}/{resource}");
        let body = json!({ "amount": amount.to_string() });
        let answer = self.ask(Method::POST, &path, &new_key(), Some(&body)).await;
        assert!(matches!(answer.status, 200 | 202), "{answer:?}");
        answer.text("recordId").to_owned()
    }

    /// Has that many deposits of 10 accepted, all at a time.
    pub(super) async fn deposits(&self, account: &str, many: u64) -> Vec<String> {
        join_all((0..many).map(|_| self.accepted("deposits", account, 10))).await
    }

    /// Ids as of a minute ago: a redrive takes such records at once, and before
    /// those that other scenarios have left PENDING meanwhile.
    pub(super) fn unsent_ids(&self, many: usize) -> Vec<String> {
        let a_minute = 60_000_u128 << 80;
        let now = || Uuid::parse_str(&new_key()).unwrap().as_u128();
        (0..many).map(|_| Uuid::from_u128(now() - a_minute).to_string()).collect()
    }

    /// Stores PENDING deposits whose commands were never sent.
    pub(super) async fn store_unsent(&self, account: &str, ids: &[String], amounts: &[i64]) {
        sqlx::query(
            "INSERT INTO transaction_records
                 (id, account_id, idempotency_key, request_hash, user_id, type, amount, currency)
             SELECT id::uuid, $1, id, '', 'teller', 'DEPOSIT', amount, 'KRW'
             FROM unnest($2::text[], $3::bigint[]) AS unsent (id, amount)",
        )
        .bind(Uuid::parse_str(account).unwrap())
        .bind(ids)
        .bind(amounts)
        .execute(&self.accounts)
        .await
        .unwrap();
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

    /// Waits until these records, the only ones of their account, are settled,
    /// and looks into both databases: each moved its money once.
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
        let many = i64::try_from(records.len()).unwrap();
        assert_eq!((entries, distinct), (many, many), "transactions of {account}");
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
            let holds: (i64, i64) = sqlx::query_as(
                "SELECT balance::bigint, account_seq FROM accounts WHERE account_id = $1",
            )
            .bind(account)
            .fetch_one(database)
            .await
            .unwrap();
            assert_eq!(holds, (total, many), "the balance of {account}, and its number");
        }
    }

    /// The ids of the messages that told this record's result.
    pub(super) fn results_of(&self, record: &str) -> Vec<String> {
        let results = self.results.lock().unwrap();
        results.iter().filter(|it| it.1 == record).map(|it| it.0.clone()).collect()
    }

    /// The message at this place of a stream, if it is still there.
    pub(super) async fn message(&self, stream: &str, sequence: u64) -> Option<StreamMessage> {
        let stream = self.jetstream.get_stream_no_info(stream).await.unwrap();
        stream.get_raw_message(sequence).await.ok()
    }

    /// The newest message of a stream that has this in its body.
    pub(super) async fn newest(&self, stream: &str, about: &str) -> Option<u64> {
        let state = broker::stream(&self.jetstream, stream).await.state;
        for sequence in (state.first_sequence..=state.last_sequence).rev() {
            if let Some(message) = self.message(stream, sequence).await
                && String::from_utf8_lossy(&message.payload).contains(about)
            {
                return Some(sequence);
            }
        }
        None
    }

    /// Publishes what none of ours would. Gives its place.
    pub(super) async fn publish(&self, subject: &str, payload: &str) -> u64 {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Nats-Msg-Id", new_key());
        let sent = self.jetstream.publish_with_headers(
            subject.to_owned(),
            headers,
            payload.to_owned().into(),
        );
        sent.await.unwrap().await.unwrap().sequence
    }

    /// How many dead letters have exactly this body.
    pub(super) async fn letters(&self, body: &str) -> usize {
        let letters = broker::dead_letters(&self.jetstream).await;
        letters.iter().filter(|letter| letter.0 == body.as_bytes()).count()
    }

    /// The place up to which all results are acked.
    pub(super) async fn results_acked_up_to(&self) -> u64 {
        let consumer = self.consumer("account-result-consumer", "TRANSACTION_RESULT").await;
        consumer.ack_floor.stream_sequence
    }

    /// What the server says of a consumer.
    pub(super) async fn consumer(&self, name: &str, stream: &str) -> jetstream::consumer::Info {
        let consumer: jetstream::consumer::Consumer<pull::Config> =
            self.jetstream.get_consumer_from_stream(name, stream).await.unwrap();
        consumer.cached_info().clone()
    }
}

/// A scenario's turn to let a process die.
pub(super) struct Turn<'a> {
    rig: &'a Rig,
    pub(super) name: &'static str,
    pub(super) crash: Crash,
    lane: MutexGuard<'a, ()>,
}

impl Turn<'_> {
    /// Arms the point for what names `about`, makes the traffic, and returns
    /// once the process died there and was started again. Gives what the
    /// traffic gave and which process it was. The next one's turn comes as
    /// soon as this one died.
    pub(super) async fn crash<T>(
        self,
        about: &str,
        traffic: impl Future<Output = T>,
    ) -> (T, String) {
        let Self { rig, name, crash, lane } = self;
        let point = rig.folder.join(crash.point);
        fs::create_dir_all(&point).unwrap();
        let armed = rig.folder.join("new").join(name);
        fs::write(&armed, format!("{}\n{about}\n", crash.with)).unwrap();
        fs::rename(armed, point.join(name)).unwrap();
        let what = format!("the point {} is reached", crash.point);
        let reached = async {
            let pid = eventually(&what, REACHED_WITHIN, || async { rig.reached(name) }).await;
            // For a second it is still listed.
            let died = rig.stack.file().processes.into_iter().find(|process| process.pid == pid);
            (died.unwrap_or_else(|| panic!("there is no process {pid}")).name, pid)
        };
        let (outcome, (died, pid)) = tokio::join!(traffic, reached);
        assert!(died.starts_with(crash.service), "it was {died}");
        drop(lane);
        eventually("it is started again", SOON, || async {
            (rig.stack.pid(&died) != pid).then_some(())
        })
        .await;
        (outcome, died)
    }
}
