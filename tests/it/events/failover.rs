//! A promoted standby without the last events gives their positions to others: streams end, and
//! no consumer passes over a new event.

use std::time::Duration;

use devstack::Fault;
use serde_json::Value;
use sqlx::{Connection, PgConnection};
use tests::{
    Client, EventStream, Stack, Standby, eventually, metrics::Scrape, stack::initialized_folder,
};

use super::{all, assert_gapless, horizon::write_event, text};
use crate::webhooks::{Endpoint, receiver::Receiver};

const SOON: Duration = Duration::from_secs(30);
/// Events that the standby does not have.
const LOST: usize = 5;
const LINKS: [&str; 2] = ["account-service-0/postgres", "webhook-service-0/postgres"];

/// A system with an account, its consumers, and a standby that gets no further events.
struct Consumers {
    stack: Stack,
    client: Client,
    account: String,
    receiver: Receiver,
    stream: EventStream,
    standby: Standby,
    /// The events that the standby has, and the cursor behind them.
    kept: (Vec<Value>, String),
}

impl Consumers {
    async fn start(name: &str) -> Self {
        let arguments = ["--port", "0", "--faults", "--account-replicas", "1"];
        let more = ["--transaction-replicas", "1", "--webhook-replicas", "1"];
        let arguments = [&arguments[..], &more].concat();
        let stack = Stack::start_in(&initialized_folder(name).await, &arguments).await;
        let client = Client::merchant(&stack, "ann");
        let receiver = Receiver::start().await;
        Endpoint::create(&client, &receiver).await;
        let account = client.open_account("KRW").await;
        client.deposit(&account, "1").await;
        receiver.received(2, SOON).await;
        let kept = all(&client, "", None, 20).await;
        let standby = Standby::start(&stack).await;
        standby.has_caught_up(&stack).await;
        standby.receives_no_more(&stack).await;
        let stream = client.follow("", None).await.unwrap();
        let mut consumers = Self { stack, client, account, receiver, stream, standby, kept };
        for _ in 0..LOST {
            consumers.client.deposit(&consumers.account, "1").await;
        }
        consumers.receiver.received(2 + LOST, SOON).await;
        for _ in 0..2 + LOST {
            assert!(consumers.stream.next_within(SOON).await.is_some());
        }
        consumers
    }

    /// Connects the services to the promoted standby. The stream ends, and each consumer gets the
    /// events of new deposits.
    async fn go_on(mut self, written: usize) {
        for link in LINKS {
            self.stack.fault(link, Fault::Redirect(self.standby.port())).await;
        }
        let mut new = Vec::new();
        for _ in 0..3 {
            let deposit = eventually("a deposit settles", SOON, || async {
                let deposit = self.client.deposit(&self.account, "1").await;
                (deposit.status == 200).then_some(deposit)
            })
            .await;
            new.push(deposit.text("recordId").to_owned());
        }
        let ended = tokio::time::timeout(SOON, self.stream.ended()).await;
        ended.expect("the stream goes on, though events of it are lost");
        let (kept, cursor) = &self.kept;
        let expected = kept.len() + written + new.len();
        let events = eventually("all events are in the log", SOON, || async {
            let (events, _) = all(&self.client, "", Some(cursor), 20).await;
            (kept.len() + events.len() == expected).then_some(events)
        })
        .await;
        assert_gapless(&[&kept[..], &events].concat());
        for (event, record) in events[written..].iter().zip(&new) {
            assert_eq!(text(&event["data"], "recordId"), record);
        }
        let mut stream = self.client.follow("", Some(cursor)).await.unwrap();
        for event in &events {
            assert_eq!(stream.next_within(SOON).await.as_ref(), Some(event));
        }
        eventually("the events are delivered", SOON, || async {
            let delivered = self.receiver.deliveries();
            let delivered: Vec<_> = delivered.iter().map(|delivery| delivery.id.clone()).collect();
            let ids = events.iter().map(|event| text(event, "id").to_owned());
            ids.into_iter().all(|id| delivered.contains(&id)).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_horizon_that_waits_when_events_are_lost_holds_up_no_later_ones() {
    let consumers = Consumers::start("horizon-failover").await;
    // The promoted standby takes long to reach the ids of transactions that were given here.
    let mut open = PgConnection::connect(&consumers.stack.file().databases.account).await.unwrap();
    let many =
        "DO $$ BEGIN FOR i IN 1..5000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$";
    for statement in [many, "BEGIN", "SELECT pg_current_xact_id()"] {
        sqlx::raw_sql(statement).execute(&mut open).await.unwrap();
    }
    let unseen = consumers.client.deposit(&consumers.account, "1").await;
    assert_eq!(unseen.text("status"), "SUCCESS");
    for service in ["account-service-0", "webhook-service-0"] {
        eventually("the horizon waits", SOON, || async {
            let scrape = Scrape::of(&consumers.stack, service).await;
            let age = scrape.sum("passbook_events_horizon_age_seconds", &[]);
            age.filter(|age| *age > 0.0)
        })
        .await;
    }
    consumers.standby.promote(&consumers.stack).await;
    consumers.go_on(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_although_the_positions_of_lost_events_were_given_again() {
    let consumers = Consumers::start("positions-failover").await;
    // Nothing listens there.
    for link in LINKS {
        consumers.stack.fault(link, Fault::Redirect(1)).await;
    }
    consumers.standby.promote(&consumers.stack).await;
    // As another replica would, before this one is back: the log is longer than before.
    let url = consumers.standby.url_of(&consumers.stack.file().databases.account);
    let mut promoted = PgConnection::connect(&url).await.unwrap();
    let written = LOST + 10;
    for _ in 0..written {
        write_event(&mut promoted, &consumers.account).await;
    }
    consumers.go_on(written).await;
}
