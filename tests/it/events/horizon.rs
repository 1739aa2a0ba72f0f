//! A position is taken before the commit: a reader does not pass one that may still appear.

use sqlx::{Connection, PgConnection};
use tests::{Client, Stack, eventually, stack::initialized_folder};

use super::{all, assert_gapless, text};

const SMALL: [&str; 6] = ["--port", "0", "--account-replicas", "2", "--transaction-replicas", "1"];

/// Writes an event of this account.
pub(super) async fn write_event(connection: &mut PgConnection, account: &str) {
    sqlx::query(
        "WITH numbered AS (
             UPDATE accounts SET event_seq = event_seq + 1 WHERE account_id = $1::uuid
             RETURNING account_id, event_seq)
         INSERT INTO events (account_id, sequence, type, created_at)
         SELECT account_id, event_seq, 1, clock_timestamp() FROM numbered",
    )
    .bind(account)
    .execute(connection)
    .await
    .unwrap();
}

/// Begins a transaction that has written an event of this account.
async fn open_transaction(stack: &Stack, account: &str) -> PgConnection {
    let mut open = PgConnection::connect(&stack.file().databases.account).await.unwrap();
    sqlx::raw_sql("BEGIN").execute(&mut open).await.unwrap();
    write_event(&mut open, account).await;
    open
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_ends_before_the_position_of_a_running_transaction() {
    let stack = Stack::start_in(&initialized_folder("events-horizon").await, &SMALL).await;
    let client = Client::teller(&stack);
    let (held, other) = (client.open_account("KRW").await, client.open_account("KRW").await);
    let (_, start) = all(&client, "", None, 20).await;
    for ends in ["COMMIT", "ROLLBACK"] {
        let (_, start) = all(&client, "", Some(&start), 20).await;
        // A transaction with a lower id ends later than the others' commits, and one with a higher
        // id than that of the first commit takes a position before it.
        let mut open = open_transaction(&stack, &held).await;
        let mut records = Vec::new();
        for _ in 0..4 {
            let deposit = client.deposit(&other, "1").await;
            assert_eq!(deposit.text("status"), "SUCCESS");
            records.push(deposit.text("recordId").to_owned());
            // Each replica has its own horizon.
            for _ in 0..4 {
                let (passed, end) = all(&client, "", Some(&start), 20).await;
                assert_eq!((passed, &end), (Vec::new(), &start));
            }
        }
        sqlx::raw_sql(ends).execute(&mut open).await.unwrap();
        let committed = usize::from(ends == "COMMIT");
        let events =
            eventually("the events appear", std::time::Duration::from_secs(10), || async {
                let (events, _) = all(&client, "", Some(&start), 3).await;
                (events.len() == records.len() + committed).then_some(events)
            })
            .await;
        for (event, record) in events[committed..].iter().zip(&records) {
            assert_eq!(text(&event["data"], "recordId"), record);
        }
        if committed > 0 {
            assert_eq!(text(&events[0], "accountId"), held);
        }
    }
    let (events, _) = all(&client, "", None, 20).await;
    assert_gapless(&events);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_of_a_transaction_with_a_later_id_is_waited_for() {
    let stack = Stack::start_in(&initialized_folder("events-fence").await, &SMALL).await;
    let client = Client::teller(&stack);
    let (first, second) = (client.open_account("KRW").await, client.open_account("KRW").await);
    let (_, start) = all(&client, "", None, 20).await;
    let url = stack.file().databases.account;
    let mut earlier = PgConnection::connect(&url).await.unwrap();
    // It has its id now, and takes its position last.
    sqlx::raw_sql("BEGIN; SELECT pg_current_xact_id()").execute(&mut earlier).await.unwrap();
    let mut later = open_transaction(&stack, &first).await;
    write_event(&mut earlier, &second).await;
    sqlx::raw_sql("COMMIT").execute(&mut earlier).await.unwrap();
    // The id that ended last is lower than that of the transaction that runs.
    for _ in 0..4 {
        let (passed, _) = all(&client, "", Some(&start), 20).await;
        assert_eq!(passed.len(), 0, "{passed:?}");
    }
    sqlx::raw_sql("COMMIT").execute(&mut later).await.unwrap();
    let events = eventually("the events appear", std::time::Duration::from_secs(10), || async {
        let (events, _) = all(&client, "", Some(&start), 20).await;
        (events.len() == 2).then_some(events)
    })
    .await;
    assert_eq!([text(&events[0], "accountId"), text(&events[1], "accountId")], [&first, &second]);
}
