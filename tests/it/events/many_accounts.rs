//! Owners of many accounts: their pages are complete, and delay no other reader.

use std::time::{Duration, Instant};

use tests::{Client, Stack, scale::size, stack::initialized_folder};
use tokio::task::JoinSet;

use super::{all, assert_gapless, items, text};

const SOON: Duration = Duration::from_secs(20);
/// Requests of the owner at a time.
const AT_ONCE: usize = 16;
/// Others get their answers and their events within this time.
const PROMPT: Duration = Duration::from_secs(2);

async fn start(name: &str) -> Stack {
    let settings = ["PASSBOOK_CUSTOMER_RATE_LIMIT=0".to_owned()];
    let arguments = ["--port", "0", "--account-replicas", "1", "--transaction-replicas", "1"];
    Stack::start_under(&initialized_folder(name).await, &settings, &arguments).await
}

/// Opens accounts of this owner, each with its event.
async fn open(stack: &Stack, owner: &str, accounts: usize) {
    // A trigger writes the events.
    let opened = "INSERT INTO accounts (account_id, owner_id, currency)
                  SELECT gen_random_uuid(), $1, 'KRW' FROM generate_series(1, $2)";
    let accounts = i64::try_from(accounts).unwrap();
    let opened = sqlx::query(opened).bind(owner).bind(accounts);
    opened.execute(&stack.accounts().await).await.unwrap();
}

/// The time of a request by the clock.
async fn timed<T>(request: impl Future<Output = T>) -> (T, Duration) {
    let begun = Instant::now();
    (request.await, begun.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_of_many_accounts_delays_no_other_reader() {
    let stack = start("events-many").await;
    open(&stack, "many", size(100_000, 20_000)).await;
    sqlx::raw_sql("VACUUM ANALYZE").execute(&stack.accounts().await).await.unwrap();
    let (many, other) = (Client::merchant(&stack, "many"), Client::merchant(&stack, "other"));
    let account = other.open_account("KRW").await;
    let mut stream = other.follow("", None).await.unwrap();
    assert!(stream.next_within(SOON).await.is_some());
    let (_, alone) = timed(many.get("/v1/events?type=record.failed")).await;
    let mut requests = JoinSet::new();
    for _ in 0..AT_ONCE {
        let many = many.clone();
        requests.spawn(async move {
            loop {
                let page = many.get("/v1/events?type=record.failed").await;
                assert_eq!(page.status, 200, "{page:?}");
            }
        });
    }
    let (mut pages, mut events) = (Vec::new(), Vec::new());
    for _ in 0..8 {
        let deposit = other.deposit(&account, "1").await;
        let (event, waited) = timed(stream.next_within(SOON)).await;
        assert_eq!(text(&event.unwrap()["data"], "recordId"), deposit.text("recordId"));
        events.push(waited);
        let (page, waited) = timed(other.get("/v1/events")).await;
        assert_eq!(page.status, 200, "{page:?}");
        pages.push(waited);
    }
    assert!(requests.try_join_next().is_none(), "a request of the owner failed");
    println!("a page of the owner took {alone:?}; pages of others {pages:?}, events {events:?}");
    for waited in pages.iter().chain(&events) {
        assert!(*waited < PROMPT, "pages {pages:?}, events {events:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_events_of_many_accounts_are_complete_and_nobody_elses() {
    let stack = start("events-many-complete").await;
    open(&stack, "many", 1_500).await;
    // More than one page reads.
    open(&stack, "other", 12_000).await;
    open(&stack, "many", 10).await;
    let (many, other) = (Client::merchant(&stack, "many"), Client::merchant(&stack, "other"));
    let account = many.open_account("KRW").await;
    many.deposit(&account, "1").await;
    let (events, end) = all(&many, "", None, 100).await;
    assert_eq!(events.len(), 1_512);
    assert_gapless(&events);
    assert_eq!(text(&events[1_511]["data"], "accountId"), account);
    let (succeeded, _) = all(&many, "&type=record.succeeded", None, 100).await;
    assert_eq!(succeeded, events[1_511..]);
    let (rest, _) = all(&many, "", Some(text(&events[1_400], "id")), 7).await;
    assert_eq!(rest, events[1_401..]);
    // A page that ends among the events of others has a cursor of its owner alone.
    let after = text(&events[1_499], "id");
    let page = many.get(&format!("/v1/events?after={after}")).await;
    assert_eq!((items(&page).len(), &page.body["hasMore"]), (0, &true.into()), "{page:?}");
    let cursor = page.text("nextCursor");
    assert!(cursor.len() == 32 && cursor != after, "{page:?}");
    let of_other = other.get(&format!("/v1/events?after={cursor}")).await;
    assert_eq!((of_other.status, of_other.problem()), (400, "invalid-cursor"), "{of_other:?}");
    // Its caller may have got other scopes since.
    let teller = Client::teller(&stack).get(&format!("/v1/events?after={cursor}")).await;
    assert_eq!(teller.status, 400, "{teller:?}");
    // The end is that of the last own event, or behind it.
    many.deposit(&account, "1").await;
    let (new, _) = all(&many, "", Some(&end), 20).await;
    assert_eq!(new.len(), 1);
    // A stream gets past the events of others, too.
    let mut stream = many.follow("", Some(cursor)).await.unwrap();
    for event in events[1_500..].iter().chain(&new) {
        assert_eq!(stream.next_within(SOON).await.as_ref(), Some(event));
    }
}
