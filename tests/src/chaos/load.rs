//! Clients that move money during an experiment, with one idempotency key a
//! movement: a client repeats a request with the same key until it gets a
//! response. The responses are the truth for the check at the end.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use rand::RngExt;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{Client, Stack, client::new_key};

/// Between two movements of a client.
const THINK_MILLISECONDS: std::ops::Range<u64> = 5..40;
/// Between two attempts of one movement.
const RETRY_MILLISECONDS: std::ops::Range<u64> = 50..300;
/// One client of this many sends its movements in batches, so that they share messages.
const BATCHES_EVERY: usize = 4;
/// One client of this many sends its movements to one replica, whether or not it is ready: the
/// proxy would hide most of its responses about an unavailable database.
const DIRECT_EVERY: usize = 4;
const REPLICA: &str = "account-service-0";
/// Movements of a batch.
const BATCH_ITEMS: std::ops::Range<usize> = 2..150;
/// How long a client waits for a response.
const RESPONSE_LIMIT: Duration = Duration::from_secs(10);

/// A movement accepted by the system, as the client knows it.
#[derive(Debug, Clone)]
pub(super) struct Accepted {
    pub(super) record: String,
    pub(super) account: String,
    pub(super) kind: &'static str,
    pub(super) amount: u64,
    pub(super) key: String,
    /// `SUCCESS` or `FAILED`; `None` if the response still said `PENDING`.
    pub(super) status: Option<String>,
}

/// All that the clients observed.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) accepted: Vec<Accepted>,
    /// Responses by status; 0 counts requests without a response.
    pub(super) responses: BTreeMap<u16, u64>,
    /// Responses no client should get.
    pub(super) unexpected: Vec<String>,
    /// Keys whose clients gave up, after every answer said that nothing was stored.
    pub(super) not_stored: Vec<String>,
    /// Movements whose clients gave up without knowing the outcome.
    abandoned: Vec<Accepted>,
    /// Keys with an attempt whose outcome is unknown.
    unknown: HashSet<String>,
}

impl History {
    /// Adds the outcome of one attempt: its status, 0 without a response, and the record or the
    /// problem. Gives whether the movement is over, so that the client need not try again.
    fn add(&mut self, requested: &Accepted, status: u16, answer: &Value) -> bool {
        *self.responses.entry(status).or_default() += 1;
        match status {
            503 if says_nothing_stored(answer) => {
                // Half of the clients give up, so that their keys stay unused.
                if !one_in(2, &requested.key) || self.unknown.contains(&requested.key) {
                    return false;
                }
                self.not_stored.push(requested.key.clone());
            }
            0 | 502..=504 => {
                self.unknown.insert(requested.key.clone());
                if !one_in(4, &requested.key) {
                    return false;
                }
                self.abandoned.push(requested.clone());
            }
            200 | 202 => {
                let text = |field: &str| answer[field].as_str().unwrap_or_default().to_owned();
                let status = Some(text("status")).filter(|status| status != "PENDING");
                let record = text("recordId");
                self.accepted.push(Accepted { record, status, ..requested.clone() });
            }
            _ => self.unexpected.push(format!("{status} {answer} for {requested:?}")),
        }
        true
    }

    /// The movements with an attempt whose outcome is unknown, with their record if a later
    /// attempt gave it.
    pub(super) fn unknown(&self) -> Vec<Accepted> {
        let later = self.accepted.iter().filter(|accepted| self.unknown.contains(&accepted.key));
        later.chain(&self.abandoned).cloned().collect()
    }

    /// Adds the outcome of one attempt of a batch, and keeps the movements to try again.
    fn add_batch(&mut self, open: &mut Vec<Accepted>, status: u16, answer: &Value) {
        if status != 200 {
            open.retain(|requested| !self.add(requested, status, answer));
            return;
        }
        let mut items = answer["items"].as_array().into_iter().flatten();
        open.retain(|requested| {
            let item = items.next().unwrap_or(&Value::Null);
            let status = item["status"].as_u64().and_then(|status| status.try_into().ok());
            let answer = item.get("record").unwrap_or(item);
            // A missing item is unexpected.
            !self.add(requested, status.unwrap_or(u16::MAX), answer)
        });
    }
}

/// Whether a key is among one of `count` keys.
fn one_in(count: u8, key: &str) -> bool {
    key.bytes().last().is_some_and(|last| last % count == 0)
}

/// Whether a problem, or the item of a batch with one, says that nothing was stored.
fn says_nothing_stored(answer: &Value) -> bool {
    let problem = answer.get("problem").unwrap_or(answer);
    problem["type"] == "/problems/unavailable"
}

/// The running clients.
pub(super) struct Load {
    pub(super) accounts: Vec<String>,
    history: Arc<Mutex<History>>,
    stop: CancellationToken,
    clients: JoinSet<()>,
}

impl Load {
    /// Opens the accounts and starts the clients.
    pub(super) async fn start(stack: &Stack, clients: usize, accounts: usize) -> Self {
        let file = stack.file();
        let client = Client::with_timeout(&file.api, &file.tokens.teller, RESPONSE_LIMIT);
        let mut opened = Vec::new();
        for _ in 0..accounts {
            opened.push(client.open_account("KRW").await);
        }
        let history = Arc::new(Mutex::new(History::default()));
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for number in 0..clients {
            let replica = file.processes.iter().find(|process| process.name == REPLICA);
            let direct = replica.and_then(|replica| replica.http.as_ref());
            let client = match direct.filter(|_| number % DIRECT_EVERY == 1) {
                Some(base) => Client::with_timeout(base, &file.tokens.teller, RESPONSE_LIMIT),
                None => client.clone(),
            };
            let worker = Worker {
                client,
                accounts: opened.clone(),
                history: Arc::clone(&history),
                stop: stop.clone(),
            };
            let batches = number % BATCHES_EVERY == BATCHES_EVERY - 1;
            tasks.spawn(async move {
                if batches { worker.send_batches().await } else { worker.send_movements().await }
            });
        }
        Self { accounts: opened, history, stop, clients: tasks }
    }

    /// The movements accepted last, at most `count`.
    pub(super) fn recent(&self, count: usize) -> Vec<Accepted> {
        let history = self.history.lock().unwrap();
        history.accepted.iter().rev().take(count).cloned().collect()
    }

    /// Lets each client finish its current movement. Gives the history of all clients.
    pub(super) async fn finish(mut self) -> History {
        self.stop.cancel();
        while let Some(client) = self.clients.join_next().await {
            // It panics at a response that is not documented.
            if let Err(stopped) = client {
                self.history.lock().unwrap().unexpected.push(stopped.to_string());
            }
        }
        Arc::into_inner(self.history).unwrap().into_inner().unwrap()
    }
}

/// One client.
struct Worker {
    client: Client,
    accounts: Vec<String>,
    history: Arc<Mutex<History>>,
    stop: CancellationToken,
}

impl Worker {
    async fn send_movements(self) {
        while !self.stop.is_cancelled() {
            let requested = self.movement();
            let resource = if requested.kind == "DEPOSIT" { "deposits" } else { "withdrawals" };
            let waits = rand::rng().random_range(0..4_u8) == 0;
            loop {
                let amount = requested.amount.to_string();
                let (account, key) = (&requested.account, &requested.key);
                let wait = waits.then_some(2);
                let sent = self.client.try_movement(resource, account, &amount, key, wait).await;
                let response = sent.map(|response| (response.status, response.body));
                let (status, answer) = response.unwrap_or_default();
                if self.history.lock().unwrap().add(&requested, status, &answer) {
                    break;
                }
                pause(RETRY_MILLISECONDS).await;
            }
            pause(THINK_MILLISECONDS).await;
        }
    }

    async fn send_batches(self) {
        while !self.stop.is_cancelled() {
            let items = rand::rng().random_range(BATCH_ITEMS);
            let mut open: Vec<_> = (0..items).map(|_| self.movement()).collect();
            while !open.is_empty() {
                let (status, answer) = send_batch(&self.client, &open).await;
                self.history.lock().unwrap().add_batch(&mut open, status, &answer);
                pause(RETRY_MILLISECONDS).await;
            }
            // As many movements a second as a client without batches.
            let pauses = (0..items).map(|_| rand::rng().random_range(THINK_MILLISECONDS));
            let pause = tokio::time::sleep(Duration::from_millis(pauses.sum()));
            let _ = self.stop.run_until_cancelled(pause).await;
        }
    }

    /// A movement to request.
    fn movement(&self) -> Accepted {
        let account = self.accounts[rand::rng().random_range(0..self.accounts.len())].clone();
        // Withdrawals are fewer and larger, so that some are refused.
        let withdraws = rand::rng().random_range(0..3_u8) == 0;
        let (kind, largest) = if withdraws { ("WITHDRAWAL", 2500) } else { ("DEPOSIT", 1000) };
        let amount = rand::rng().random_range(1..=largest);
        Accepted { record: String::new(), account, kind, amount, key: new_key(), status: None }
    }
}

/// Requests movements in one batch. Gives the status, 0 without a response, and the body.
pub(super) async fn send_batch(client: &Client, movements: &[Accepted]) -> (u16, Value) {
    let item = |requested: &Accepted| {
        json!({
            "accountId": requested.account, "type": requested.kind,
            "amount": requested.amount.to_string(), "idempotencyKey": requested.key,
        })
    };
    let body = json!({ "items": movements.iter().map(item).collect::<Vec<_>>() });
    let json = [("content-type", "application/json")];
    let sent = client.send(Method::POST, "/v1/batches", &json, Some(body.to_string().into())).await;
    sent.map(|response| (response.status, response.body)).unwrap_or_default()
}

async fn pause(milliseconds: std::ops::Range<u64>) {
    let pause = rand::rng().random_range(milliseconds);
    tokio::time::sleep(Duration::from_millis(pause)).await;
}
