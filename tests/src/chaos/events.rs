//! A consumer of the event log during an experiment, with the Rust client.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use ::client::{Client, EventFilter};
use anyhow::Result;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use crate::Stack;

/// How long the consumer may be behind after the last record is settled.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(200);

/// The numbers of the events of each account, as they were read.
type Numbers = BTreeMap<String, Vec<i64>>;

/// A running consumer of all events.
pub(super) struct Consumer {
    numbers: Arc<Mutex<Numbers>>,
    _task: AbortOnDropHandle<()>,
}

impl Consumer {
    pub(super) fn start(stack: &Stack) -> Self {
        let file = stack.file();
        let client = Client::new(&file.api, &file.tokens.teller).unwrap();
        let numbers = Arc::<Mutex<Numbers>>::default();
        let read = Arc::clone(&numbers);
        let task = tokio::spawn(async move {
            let mut events = client.follow(EventFilter::default(), None);
            loop {
                let Ok(event) = events.next().await else {
                    sleep(POLL).await;
                    continue;
                };
                let mut read = read.lock().unwrap();
                read.entry(event.account_id.to_string()).or_default().push(event.sequence);
            }
        });
        Self { numbers, _task: AbortOnDropHandle::new(task) }
    }

    /// Waits until the consumer has read the last event of each account. Gives the accounts of
    /// which it did not read 1, 2, 3 … once and in order.
    pub(super) async fn findings(self, stack: &Stack) -> Result<Vec<String>> {
        let pool = stack.accounts().await;
        let begun = Instant::now();
        loop {
            // Each time anew: a repeated request of an unknown outcome may settle only now.
            let accounts = "SELECT account_id::text, event_seq FROM accounts WHERE event_seq > 0";
            let accounts: Vec<(String, i64)> = sqlx::query_as(accounts).fetch_all(&pool).await?;
            let wrong = self.wrong(&accounts);
            if wrong.is_empty() || begun.elapsed() > CAUGHT_UP_WITHIN {
                return Ok(wrong);
            }
            sleep(POLL).await;
        }
    }

    fn wrong(&self, accounts: &[(String, i64)]) -> Vec<String> {
        let read = self.numbers.lock().unwrap();
        let none = Vec::new();
        let wrong = accounts.iter().filter_map(|(account, last)| {
            let numbers = read.get(account).unwrap_or(&none);
            let place = numbers.iter().zip(1..).position(|(number, expected)| *number != expected);
            let count = i64::try_from(numbers.len()).unwrap();
            (place.is_some() || count != *last).then(|| {
                format!(
                    "account {account} has {last} events, the consumer read {count}, wrong from {}",
                    place.unwrap_or(numbers.len())
                )
            })
        });
        wrong.collect()
    }
}
