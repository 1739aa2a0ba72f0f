//! The log as server-sent events.

use std::time::{Duration, Instant};

use contract::{Scope, Scopes};
use devstack::Secrets;
use nix::sys::signal::Signal;
use serde_json::Value;
use tests::{
    Client, EventStream, Stack, client::new_key, process::signal, stack::initialized_folder,
};

use super::{all, text};

const SOON: Duration = Duration::from_secs(20);

fn merchant(stack: &Stack) -> Client {
    Client::merchant(stack, &new_key())
}

async fn next(stream: &mut EventStream, count: usize) -> Vec<Value> {
    let mut events = Vec::new();
    while events.len() < count {
        let event = stream.next_within(SOON).await;
        events.push(event.unwrap_or_else(|| panic!("{} of {count} events", events.len())));
    }
    events
}

/// The problem of a stream that is refused.
async fn refused(client: &Client, query: &str, last: Option<&str>) -> (u16, String, String) {
    let response = client.follow(query, last).await.unwrap_err().unwrap();
    (response.status, response.problem().to_owned(), response.text("field").to_owned())
}

#[tokio::test]
async fn a_stream_catches_up_and_goes_on() {
    let stack = Stack::shared().await;
    let (ann, ben, teller) = (merchant(stack), merchant(stack), Client::teller(stack));
    let (of_ann, of_ben) = (ann.open_account("KRW").await, ben.open_account("KRW").await);
    ann.deposit(&of_ann, "10").await;
    ben.deposit(&of_ben, "10").await;
    let of_account = format!("accountId={of_ann}");
    let mut streams = [
        ann.follow("", None).await.unwrap(),
        ann.follow(&of_account, None).await.unwrap(),
        teller.follow(&of_account, None).await.unwrap(),
    ];
    let mut failed = ann.follow("type=record.failed", None).await.unwrap();
    let mut passing = ann.follow("type=record.failed", None).await.unwrap();
    let mut of_ben_only = ben.follow("", None).await.unwrap();
    let mut live = Vec::new();
    for stream in &mut streams {
        assert_eq!(stream.next_block().await.unwrap(), "retry: 2000\n\n");
        live.extend(next(stream, 2).await);
    }
    next(&mut of_ben_only, 2).await;
    // A filter may leave out any number of events: the client is told how far they are read, and
    // goes on there.
    let (read, _) = all(&ann, "", None, 20).await;
    assert_eq!(passing.next_block().await.unwrap(), "retry: 2000\n\n");
    let passed = tokio::time::timeout(Duration::from_secs(5), passing.next_block()).await.unwrap();
    assert_eq!(passed.unwrap(), format!("id: {}\n\n", text(&read[1], "id")));
    // New events arrive soon, to those who may see them.
    ann.deposit(&of_ann, "10").await;
    ben.deposit(&of_ben, "10").await;
    ann.withdraw(&of_ann, "1000").await;
    ann.deposit(&of_ann, "10").await;
    let (page, _) = all(&ann, "", None, 20).await;
    for stream in &mut streams {
        let events = [&page[..2], &next(stream, 3).await].concat();
        assert_eq!(events, page);
    }
    assert_eq!(next(&mut failed, 1).await, [page[3].clone()]);
    assert_eq!(text(&next(&mut of_ben_only, 1).await[0], "accountId"), of_ben);
    for stream in streams.iter_mut().chain([&mut of_ben_only]) {
        assert_eq!(stream.next_within(Duration::from_millis(300)).await, None);
    }
    // After any event, by the header or by the query.
    for (at, event) in page.iter().enumerate() {
        let id = text(event, "id");
        let rest = page.len() - at - 1;
        let mut by_header = ann.follow("", Some(id)).await.unwrap();
        assert_eq!(next(&mut by_header, rest).await, page[at + 1..]);
        let mut by_query = ann.follow(&format!("after={id}"), None).await.unwrap();
        assert_eq!(next(&mut by_query, rest).await, page[at + 1..]);
    }
}

#[tokio::test]
async fn a_stream_shows_nothing_of_others() {
    let stack = Stack::shared().await;
    let (ann, ben) = (merchant(stack), merchant(stack));
    let of_ben = ben.open_account("KRW").await;
    let id = text(&all(&ben, "", None, 20).await.0[0], "id").to_owned();
    let cursor = |field: &str| (400, "invalid-cursor".to_owned(), field.to_owned());
    assert_eq!(refused(&ann, "", Some(&id)).await, cursor("Last-Event-ID"));
    assert_eq!(refused(&ann, "", Some("7")).await, cursor("Last-Event-ID"));
    assert_eq!(refused(&ann, &format!("after={id}"), None).await, cursor("after"));
    let account = refused(&ann, &format!("accountId={of_ben}"), None).await;
    assert_eq!(account, (404, "account-not-found".to_owned(), String::new()));
    let others = Scope::ALL.into_iter().filter(|scope| *scope != Scope::EventsRead);
    let without = Client::user(stack, "someone", others.collect());
    assert_eq!(refused(&without, "", None).await.0, 403);
}

#[tokio::test]
async fn a_customer_has_a_bounded_number_of_streams() {
    let stack = Stack::start_in(
        &initialized_folder("event-streams").await,
        &["--port", "0", "--account-replicas", "1", "--transaction-replicas", "1"],
    )
    .await;
    let client = merchant(&stack);
    let mut streams = Vec::new();
    for _ in 0..10 {
        streams.push(client.follow("", None).await.unwrap());
    }
    let (status, problem, _) = refused(&client, "", None).await;
    assert_eq!((status, &*problem), (429, "too-many-streams"));
    // Other callers have their own, and a stream that ends leaves its place.
    let mut other = merchant(&stack).follow("", None).await.unwrap();
    assert!(other.next_block().await.is_some());
    streams.clear();
    tests::eventually("a place is free", SOON, || async {
        client.follow("", None).await.ok().map(drop)
    })
    .await;
}

#[tokio::test]
async fn a_stream_ends_with_its_token_and_with_its_replica() {
    let stack = Stack::start_in(
        &initialized_folder("event-stream-ends").await,
        &["--port", "0", "--account-replicas", "1", "--transaction-replicas", "1"],
    )
    .await;
    // The leeway of the verifier is 30 s.
    let secrets = Secrets::read(&stack.dir).unwrap();
    let lifetime = time::Duration::seconds(-22);
    let token = secrets.token("ann", Scopes::customer(), lifetime).unwrap();
    let expiring = Client::new(&stack.file().api, &token);
    let mut stream = expiring.follow("", None).await.unwrap();
    let begun = Instant::now();
    tokio::time::timeout(SOON, stream.ended()).await.unwrap();
    assert!(begun.elapsed() > Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(refused(&expiring, "", None).await.0, 401);

    let client = Client::teller(&stack);
    client.open_account("KRW").await;
    let mut stream = client.follow("", None).await.unwrap();
    next(&mut stream, 1).await;
    let before = stack.pid("account-service-0");
    let begun = Instant::now();
    signal(before, Signal::SIGTERM);
    tokio::time::timeout(SOON, stream.ended()).await.unwrap();
    // The drain delay is five seconds.
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}
