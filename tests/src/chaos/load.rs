//! Clients that move money meanwhile, as careful clients do: one key a
//! movement, sent again until there is an answer. What they were told is the
//! truth that the system is held to.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use rand::RngExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{Answer, Client, Stack, client::new_key};

/// Between two movements of a client.
const THINK: std::ops::Range<u64> = 5..40;
/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// One movement that a client was told is accepted.
#[derive(Debug, Clone)]
pub(super) struct Accepted {
    pub(super) record: String,
    pub(super) account: String,
    pub(super) kind: &'static str,
    pub(super) amount: u64,
    pub(super) key: String,
    /// `SUCCESS` or `FAILED`, if the answer told so already.
    pub(super) told: Option<String>,
}

/// What the clients were told.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) accepted: Vec<Accepted>,
    /// Answers by status; 0 is none.
    pub(super) answers: BTreeMap<u16, u64>,
    /// Answers that no client should get.
    pub(super) odd: Vec<String>,
}

impl Told {
    /// Takes an answer down; gives whether it was one.
    fn hear(&mut self, asked: &Accepted, answer: Option<Answer>) -> bool {
        let status = answer.as_ref().map_or(0, |it| it.status);
        *self.answers.entry(status).or_default() += 1;
        match (status, answer) {
            (0 | 502..=504, _) | (_, None) => return false,
            (200 | 202, Some(answer)) => {
                let status = answer.text("status").to_owned();
                let told = Some(status).filter(|it| it != "PENDING");
                let record = answer.text("recordId").to_owned();
                self.accepted.push(Accepted { record, told, ..asked.clone() });
            }
            (_, Some(other)) => self.odd.push(format!("{other:?}")),
        }
        true
    }
}

/// The clients.
pub(super) struct Load {
    pub(super) accounts: Vec<String>,
    told: Arc<Mutex<Told>>,
    stop: CancellationToken,
    clients: JoinSet<()>,
}

impl Load {
    /// Opens accounts and starts moving money.
    pub(super) async fn start(stack: &Stack, clients: usize, accounts: usize) -> Self {
        let file = stack.file();
        let client = Client::with_timeout(&file.api, &file.tokens.teller, PATIENCE);
        let mut opened = Vec::new();
        for _ in 0..accounts {
            opened.push(client.open_account("KRW").await);
        }
        let told = Arc::new(Mutex::new(Told::default()));
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for _ in 0..clients {
            tasks.spawn(work(client.clone(), opened.clone(), Arc::clone(&told), stop.clone()));
        }
        Self { accounts: opened, told, stop, clients: tasks }
    }

    /// Some movement that was accepted lately.
    pub(super) fn recent(&self, count: usize) -> Vec<Accepted> {
        let told = self.told.lock().unwrap();
        told.accepted.iter().rev().take(count).cloned().collect()
    }

    /// Has each client end with an answer, and gives what all were told.
    pub(super) async fn finish(mut self) -> Told {
        self.stop.cancel();
        while let Some(ended) = self.clients.join_next().await {
            ended.unwrap();
        }
        Arc::into_inner(self.told).unwrap().into_inner().unwrap()
    }
}

async fn work(
    client: Client,
    accounts: Vec<String>,
    told: Arc<Mutex<Told>>,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        let account = accounts[rand::rng().random_range(0..accounts.len())].clone();
        // Withdrawals are the smaller part and the larger amounts: some are refused.
        let withdraws = rand::rng().random_range(0..3_u8) == 0;
        let (resource, kind, most) = if withdraws {
            ("withdrawals", "WITHDRAWAL", 2500)
        } else {
            ("deposits", "DEPOSIT", 1000)
        };
        let amount = rand::rng().random_range(1..=most);
        let waits = rand::rng().random_range(0..4_u8) == 0;
        let key = new_key();
        let asked = Accepted { record: String::new(), account, kind, amount, key, told: None };
        loop {
            let amount = amount.to_string();
            let answer = client
                .try_movement(resource, &asked.account, &amount, &asked.key, waits.then_some(2))
                .await;
            if told.lock().unwrap().hear(&asked, answer.ok()) {
                break;
            }
            let pause = rand::rng().random_range(50..300);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        let think = rand::rng().random_range(THINK);
        tokio::time::sleep(Duration::from_millis(think)).await;
    }
}
