//! `passbook verify` finds damage in the event log.

use serde_json::json;
use sqlx::AssertSqlSafe;
use tests::{Client, Stack, invariants, stack::initialized_folder};

/// Damage, its repair, and a text of a finding. `@` is the account with these events: 1
/// account.created, 2 record.succeeded, 3 record.failed, 4 record.succeeded. `#` is another
/// account with a movement.
const DAMAGES: [[&str; 3]; 15] = [
    [
        "UPDATE events SET sequence = 9 WHERE account_id = @ AND sequence = 4",
        "UPDATE events SET sequence = 4 WHERE account_id = @ AND sequence = 9",
        "should have event 4, but has event 9",
    ],
    [
        "UPDATE events SET sequence = 3 WHERE account_id = @ AND sequence = 4",
        "UPDATE events SET sequence = 4
         WHERE account_id = @ AND sequence = 3 AND type = 2",
        "should have event 4, but has event 3",
    ],
    [
        "UPDATE events SET sequence = 5 - sequence WHERE account_id = @ AND sequence IN (2, 3)",
        "UPDATE events SET sequence = 5 - sequence WHERE account_id = @ AND sequence IN (2, 3)",
        "should have event 2, but has event 3",
    ],
    [
        "CREATE TABLE gone AS SELECT * FROM events WHERE account_id = @ AND sequence = 1;
         DELETE FROM events WHERE account_id = @ AND sequence = 1",
        "INSERT INTO events OVERRIDING SYSTEM VALUE SELECT * FROM gone; DROP TABLE gone",
        "should have event 1, but has event 2",
    ],
    [
        "CREATE TABLE gone AS SELECT * FROM events WHERE account_id = @ AND sequence = 4;
         DELETE FROM events WHERE account_id = @ AND sequence = 4",
        "INSERT INTO events OVERRIDING SYSTEM VALUE SELECT * FROM gone; DROP TABLE gone",
        "has 3 events, but eventSeq 4",
    ],
    [
        "CREATE TABLE gone AS SELECT * FROM events WHERE account_id = @ AND sequence = 4;
         DELETE FROM events WHERE account_id = @ AND sequence = 4;
         UPDATE accounts SET event_seq = 3 WHERE account_id = @",
        "INSERT INTO events OVERRIDING SYSTEM VALUE SELECT * FROM gone; DROP TABLE gone;
         UPDATE accounts SET event_seq = 4 WHERE account_id = @",
        "is SUCCESS, but its event is missing",
    ],
    [
        "UPDATE accounts SET event_seq = 5 WHERE account_id = @",
        "UPDATE accounts SET event_seq = 4 WHERE account_id = @",
        "has 4 events, but eventSeq 5",
    ],
    [
        "UPDATE events SET type = 3 WHERE account_id = @ AND sequence = 2",
        "UPDATE events SET type = 2 WHERE account_id = @ AND sequence = 2",
        "is SUCCESS, but its event is record.failed",
    ],
    [
        "UPDATE events SET type = 2 WHERE account_id = @ AND sequence = 3",
        "UPDATE events SET type = 3 WHERE account_id = @ AND sequence = 3",
        "is FAILED, but its event is record.succeeded",
    ],
    [
        "CREATE TABLE swapped AS SELECT record_id FROM events
             WHERE account_id = @ AND sequence = 2;
         UPDATE events SET record_id = (SELECT record_id FROM events
             WHERE account_id = # AND sequence = 2) WHERE account_id = @ AND sequence = 2;
         UPDATE events SET record_id = (SELECT record_id FROM swapped)
             WHERE account_id = # AND sequence = 2",
        "UPDATE events SET record_id = (SELECT record_id FROM events
             WHERE account_id = @ AND sequence = 2) WHERE account_id = # AND sequence = 2;
         UPDATE events SET record_id = (SELECT record_id FROM swapped)
             WHERE account_id = @ AND sequence = 2;
         DROP TABLE swapped",
        "but its event is one of account",
    ],
    [
        "INSERT INTO events (account_id, sequence, type, created_at) VALUES (@, 5, 1, now());
         UPDATE accounts SET event_seq = 5 WHERE account_id = @",
        "DELETE FROM events WHERE account_id = @ AND sequence = 5;
         UPDATE accounts SET event_seq = 4 WHERE account_id = @",
        "has account.created as event 5",
    ],
    [
        "INSERT INTO events (account_id, sequence, type, record_id, created_at)
         SELECT account_id, 5, type, record_id, now() FROM events
         WHERE account_id = @ AND sequence = 2;
         UPDATE accounts SET event_seq = 5 WHERE account_id = @",
        "DELETE FROM events WHERE account_id = @ AND sequence = 5;
         UPDATE accounts SET event_seq = 4 WHERE account_id = @",
        "is SUCCESS, and has 2 events record.succeeded",
    ],
    [
        "CREATE TABLE gone AS SELECT record_id FROM events WHERE account_id = @ AND sequence = 2;
         UPDATE events SET record_id = NULL WHERE account_id = @ AND sequence = 2",
        "UPDATE events SET record_id = (SELECT record_id FROM gone)
         WHERE account_id = @ AND sequence = 2; DROP TABLE gone",
        "has no record in event 2, record.succeeded",
    ],
    [
        "INSERT INTO events (account_id, sequence, type, record_id, created_at)
         VALUES (@, 5, 2, gen_random_uuid(), now());
         UPDATE accounts SET event_seq = 5 WHERE account_id = @",
        "DELETE FROM events WHERE account_id = @ AND sequence = 5;
         UPDATE accounts SET event_seq = 4 WHERE account_id = @",
        "has an event, but does not exist",
    ],
    [
        "INSERT INTO events (account_id, sequence, type, created_at)
         VALUES ('00000000-0000-7000-8000-000000000000', 1, 1, now())",
        "DELETE FROM events WHERE account_id = '00000000-0000-7000-8000-000000000000'",
        "has 1 events, but does not exist",
    ],
];

#[tokio::test]
async fn damage_of_the_event_log_is_found() {
    let stack = Stack::start("events-verified").await;
    let client = Client::teller(&stack);
    let (account, other) = (client.open_account("KRW").await, client.open_account("KRW").await);
    client.deposit(&account, "100").await;
    client.withdraw(&account, "1000").await;
    client.deposit(&account, "20").await;
    client.deposit(&other, "5").await;
    let clean = invariants::assert_verified(&stack).await;
    assert_eq!(clean["announced"]["compared"], 6, "{clean:#}");

    let accounts = stack.accounts().await;
    let run = async |statement: &str| {
        let statement = statement.replace('@', &format!("'{account}'"));
        let statement = statement.replace('#', &format!("'{other}'"));
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&accounts).await.unwrap();
    };
    for [damage, repair, expected] in DAMAGES {
        run(damage).await;
        let (code, report) = invariants::verify(&stack).await;
        let found = report["announced"]["first"].to_string();
        assert!(code == 1 && found.contains(expected), "{damage}: {report:#}");
        run(repair).await;
        invariants::assert_verified(&stack).await;
    }

    // A record that was settled again by hand.
    run("UPDATE transaction_records SET status = 'PENDING', transaction_id = NULL, reason = NULL,
             redrive_at = now() + interval '1 hour'
         WHERE account_id = @ AND status = 'FAILED'")
    .await;
    let (_, report) = invariants::verify(&stack).await;
    let found = report["announced"]["first"].to_string();
    assert!(found.contains("is PENDING, but its event is record.failed"), "{report:#}");
}

#[tokio::test]
async fn accounts_and_records_from_before_the_event_log_need_no_events() {
    let arguments = ["--port", "0", "--report-replicas", "1"];
    let stack = Stack::start_in(&initialized_folder("events-before").await, &arguments).await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    client.deposit(&account, "100").await;
    let before = "DELETE FROM events; UPDATE accounts SET event_seq = 0;
        UPDATE transaction_records SET announced = NULL";
    sqlx::raw_sql(before).execute(&stack.accounts().await).await.unwrap();
    let report = invariants::assert_verified(&stack).await;
    assert_eq!(report["announced"]["compared"], 0, "{report:#}");
    client.deposit(&account, "20").await;
    let report = invariants::assert_verified(&stack).await;
    assert_eq!(report["announced"]["compared"], json!(1), "{report:#}");
    // The report reads the same by its views.
    let body = json!({ "kind": "reconciliation", "formats": ["json"] });
    let report = client.report(&body, 30).await;
    assert_eq!(report.text("state"), "SUCCEEDED", "{report:?}");
    let path = format!("/v1/reports/{}/artifacts/json", report.text("reportId"));
    let document = client.get(&path).await;
    let checks = document.body["checks"].as_array().unwrap_or_else(|| panic!("{document:?}"));
    let announced = checks.iter().find(|check| check["name"] == "announced").unwrap();
    assert_eq!((&announced["examined"], &announced["findings"]), (&json!(1), &json!(0)));
}
