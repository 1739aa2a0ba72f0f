//! The webhook-service's store.

use account_service::{
    events::{EventFilter, EventLog, Source, horizon::Reached},
    store::{EventMark, LogRange, list_events, list_events_of_account, list_events_of_owner},
};
use contract::AccountId;
use runtime::postgres::PgPool;
use sqlx::AssertSqlSafe;
use tests::Stack;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;
use webhook_service::store::{announce, cap_times, find_backlog};

/// Opens accounts of this owner. A trigger writes their events. Gives the last one.
async fn open(accounts: &PgPool, owner: &str, number: i32) -> EventMark {
    let opened = "INSERT INTO accounts (account_id, owner_id, currency)
                  SELECT gen_random_uuid(), $1, 'KRW' FROM generate_series(1, $2)";
    sqlx::query(opened).bind(owner).bind(number).execute(accounts).await.unwrap();
    let newest =
        "SELECT position, account_id, created_at FROM events ORDER BY position DESC LIMIT 1";
    let (position, account, created_at): (i64, Uuid, OffsetDateTime) =
        sqlx::query_as(newest).fetch_one(accounts).await.unwrap();
    EventMark { position, account: AccountId::from_uuid(account), created_at }
}

/// How many events each statement lists in a database that must have this one.
async fn listed(accounts: &PgPool, known: EventMark, newest: EventMark) -> [usize; 3] {
    let (after, to) = (newest.position - 2, newest.position);
    let range = LogRange { after, to, known: Some(known), limit: 10 };
    let many = "many".to_owned().try_into().unwrap();
    let all = list_events(accounts, range).await.unwrap();
    let of_owner = list_events_of_owner(accounts, &many, range).await.unwrap();
    let of_account = list_events_of_account(accounts, newest.account, range).await.unwrap();
    [all.len(), of_owner.len(), of_account.len()]
}

/// Whether the oldest event that was never tried is an hour old.
async fn is_old(accounts: &PgPool) -> bool {
    let age = find_backlog(accounts, &[]).await.unwrap().untried_age;
    assert!(!(300.0..=3_300.0).contains(&age), "{age}");
    age > 3_300.0
}

#[tokio::test]
async fn events_are_read_up_to_one_that_the_log_has_and_the_next_of_many_accounts_is_found() {
    let stack = Stack::start_servers("announced-events").await;
    let accounts = stack.accounts().await;
    let begin = open(&accounts, "many", 1_001).await.position;
    let endpoint = "INSERT INTO webhook_endpoints
                        (id, owner_id, url, created_by, request_hash, position, announced)
                    VALUES (gen_random_uuid(), 'many', 'https://a', 'many', '', $1, $1)";
    sqlx::query(endpoint).bind(begin).execute(&accounts).await.unwrap();
    open(&accounts, "other", 1_000).await;
    let next = open(&accounts, "many", 1).await.position;
    let newest = open(&accounts, "many", 1).await;

    // A database that was promoted without the newest event gives its position to another one.
    let from: i64 = sqlx::query_scalar("SELECT position FROM webhook_fanout")
        .fetch_one(&accounts)
        .await
        .unwrap();
    let announced = async |from: i64, to: EventMark| {
        let (owners, positions) = (["many".to_owned()], [newest.position]);
        announce(&accounts, from, to, &owners, &positions).await.unwrap()
    };
    let earlier = newest.created_at - Duration::SECOND;
    for lost in [
        EventMark { created_at: earlier, ..newest },
        EventMark { account: AccountId::from_uuid(Uuid::nil()), ..newest },
        EventMark { position: newest.position + 1, ..newest },
    ] {
        assert!(!announced(from, lost).await, "{lost:?}");
        assert_eq!(listed(&accounts, lost, newest).await, [0; 3], "{lost:?}");
    }
    assert_eq!(listed(&accounts, newest, newest).await, [2, 2, 1]);
    assert!(!announced(from + 1, newest).await);
    assert!(!is_old(&accounts).await);
    assert!(announced(from, newest).await);

    // The next event is behind a thousand events of others: the last announced one counts for it.
    let old = "UPDATE events SET created_at = created_at - interval '1 hour' WHERE position = $1";
    sqlx::query(old).bind(next).execute(&accounts).await.unwrap();
    assert!(!is_old(&accounts).await);
    let nearer = "UPDATE webhook_endpoints SET position = position + 1";
    sqlx::query(nearer).execute(&accounts).await.unwrap();
    assert!(is_old(&accounts).await);

    // An event that waits to be announced counts, if there is an endpoint.
    let taken = "UPDATE webhook_endpoints SET position = announced";
    sqlx::query(taken).execute(&accounts).await.unwrap();
    assert!(!is_old(&accounts).await);
    let waiting = open(&accounts, "many", 1).await.position;
    sqlx::query(old).bind(waiting).execute(&accounts).await.unwrap();
    assert!(is_old(&accounts).await);
    let disabled = "UPDATE webhook_endpoints SET enabled = false, disabled_because = 'request'";
    sqlx::query(disabled).execute(&accounts).await.unwrap();
    assert!(!is_old(&accounts).await);
}

#[tokio::test]
async fn times_that_are_too_far_ahead_are_shortened_and_make_no_endpoint_a_failing_one() {
    let stack = Stack::start_servers("webhook-times").await;
    let accounts = stack.accounts().await;
    for failing_since in ["NULL", "now() + interval '1 hour'"] {
        let endpoint = format!(
            "INSERT INTO webhook_endpoints
                 (id, owner_id, url, created_by, request_hash, position, announced, lease_until,
                  failing_since)
             VALUES (gen_random_uuid(), 'ann', 'https://a', 'ann', '', 0, 0,
                 now() + interval '1 hour', {failing_since})"
        );
        sqlx::query(AssertSqlSafe(endpoint)).execute(&accounts).await.unwrap();
    }
    let longest = std::time::Duration::from_secs(60);
    assert_eq!(cap_times(&accounts, longest).await.unwrap(), 2);
    let capped = "SELECT count(*) FILTER (WHERE failing_since IS NULL),
                      count(*) FILTER (WHERE failing_since <= clock_timestamp())
                  FROM webhook_endpoints
                  WHERE lease_until <= clock_timestamp() + interval '60 seconds'";
    let capped: (i64, i64) = sqlx::query_as(capped).fetch_one(&accounts).await.unwrap();
    assert_eq!(capped, (1, 1));
    assert_eq!(cap_times(&accounts, longest).await.unwrap(), 0);
}

#[tokio::test]
async fn a_page_up_to_an_event_that_the_database_has_lost_is_empty() {
    let stack = Stack::start_servers("lost-horizon").await;
    let accounts = stack.accounts().await;
    let newest = open(&accounts, "many", 2).await;
    let log = EventLog::new(accounts);
    let all = EventFilter { source: Source::All, kind: None };
    let read = async |event: EventMark| {
        let reached = Reached { position: newest.position, event: Some(event), losses: 0 };
        let page = log.read_reached(&all, newest.position - 2, reached, 10).await.unwrap();
        page.events.len()
    };
    let lost = EventMark { created_at: newest.created_at - Duration::SECOND, ..newest };
    assert_eq!((read(newest).await, read(lost).await), (2, 0));
}
