//! Clients that move money during an experiment, with one idempotency key a
//! movement: a client repeats a request with the same key until it gets a
//! response. The responses are the truth for the check at the end.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use rand::RngExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{Client, Response, Stack, client::new_key};

/// Between two movements of a client.
const THINK_MILLISECONDS: std::ops::Range<u64> = 5..40;
/// Between two attempts of one movement.
const RETRY_MILLISECONDS: std::ops::Range<u64> = 50..300;
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
}

impl History {
    /// Adds the outcome of one attempt. Gives whether the movement is over, so that the client need
    /// not try again.
    fn add(&mut self, requested: &Accepted, response: Option<Response>) -> bool {
        let status = response.as_ref().map_or(0, |response| response.status);
        *self.responses.entry(status).or_default() += 1;
        match (status, response) {
            (0 | 502..=504, _) | (_, None) => return false,
            (200 | 202, Some(response)) => {
                let status = response.text("status").to_owned();
                let status = Some(status).filter(|status| status != "PENDING");
                let record = response.text("recordId").to_owned();
                self.accepted.push(Accepted { record, status, ..requested.clone() });
            }
            (_, Some(other)) => self.unexpected.push(format!("{other:?}")),
        }
        true
    }
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
        for _ in 0..clients {
            tasks.spawn(work(client.clone(), opened.clone(), Arc::clone(&history), stop.clone()));
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
            client.unwrap();
        }
        Arc::into_inner(self.history).unwrap().into_inner().unwrap()
    }
}

async fn work(
    client: Client,
    accounts: Vec<String>,
    history: Arc<Mutex<History>>,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        let account = accounts[rand::rng().random_range(0..accounts.len())].clone();
        // Withdrawals are fewer and larger, so that some are refused.
        let withdraws = rand::rng().random_range(0..3_u8) == 0;
        let (resource, kind, largest) = if withdraws {
            ("withdrawals", "WITHDRAWAL", 2500)
        } else {
            ("deposits", "DEPOSIT", 1000)
        };
        let amount = rand::rng().random_range(1..=largest);
        let waits = rand::rng().random_range(0..4_u8) == 0;
        let (record, key) = (String::new(), new_key());
        let requested = Accepted { record, account, kind, amount, key, status: None };
        loop {
            let amount = amount.to_string();
            let (account, key) = (&requested.account, &requested.key);
            let wait = waits.then_some(2);
            let response = client.try_movement(resource, account, &amount, key, wait).await;
            if history.lock().unwrap().add(&requested, response.ok()) {
                break;
            }
            pause(RETRY_MILLISECONDS).await;
        }
        pause(THINK_MILLISECONDS).await;
    }
}

async fn pause(milliseconds: std::ops::Range<u64>) {
    let pause = rand::rng().random_range(milliseconds);
    tokio::time::sleep(Duration::from_millis(pause)).await;
}
