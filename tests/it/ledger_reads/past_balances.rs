//! `GET /v1/accounts/{id}/balances?at=`.

use futures::future::join_all;
use rust_decimal::Decimal;
use serde_json::json;
use sqlx::{Connection, PgConnection};
use tests::{Client, Stack, client::new_key, eventually, stack::initialized_folder};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use super::{position, query};

const SOON: std::time::Duration = std::time::Duration::from_secs(20);

/// A movement as the ledger has it: its number, time and signed amount.
type Movement = (i64, OffsetDateTime, Decimal);

fn text(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap()
}

async fn movements(stack: &Stack, account: &str) -> Vec<Movement> {
    sqlx::query_as(
        "SELECT account_seq, created_at, CASE type WHEN 'DEPOSIT' THEN amount ELSE -amount END
         FROM transactions WHERE account_id = $1 AND status = 'SUCCESS' ORDER BY account_seq",
    )
    .bind(Uuid::parse_str(account).unwrap())
    .fetch_all(&stack.ledger().await)
    .await
    .unwrap()
}

/// The balance and number before an instant, by the sum of the movements.
fn expected(movements: &[Movement], at: OffsetDateTime) -> (String, i64) {
    let before: Vec<_> = movements.iter().filter(|(_, time, _)| *time < at).collect();
    let mut sum: Decimal = before.iter().map(|(_, _, amount)| amount).sum();
    sum.rescale(2);
    (sum.to_string(), before.last().map_or(0, |(seq, ..)| *seq))
}

#[tokio::test]
async fn a_past_balance_is_the_sum_of_the_movements_before_it() {
    let stack = Stack::shared().await;
    let client = Client::teller(stack);
    let account = client.open_account("USD").await;
    let path = format!("/v1/accounts/{account}/balances");
    for round in 0..8 {
        let moved = (0..6).map(|number| {
            let resource = if number % 3 == 2 { "withdrawals" } else { "deposits" };
            let amount = format!("{}.{:02}", number + 1, round * 7 + number);
            let client = &client;
            let account = &account;
            async move { client.movement(resource, account, &amount, &new_key(), Some(20)).await }
        });
        for record in join_all(moved).await {
            assert_eq!(record.status, 200, "{record:?}");
        }
    }
    client.withdraw(&account, "1000000").await;
    let movements = movements(stack, &account).await;
    assert!(movements.len() >= 32, "{movements:?}");

    let microsecond = Duration::microseconds(1);
    let (first, last) = (movements[0].1, movements[movements.len() - 1].1);
    let mut instants = vec![first - Duration::days(400), last + Duration::milliseconds(1)];
    for (_, at, _) in &movements {
        instants.extend([*at - microsecond, *at, *at + microsecond]);
    }
    instants.dedup();
    for at in instants {
        let answer = query(&client, &path, &format!("at={}", text(at))).await;
        assert_eq!(position(&answer), expected(&movements, at), "{at}");
        // The same instant in another zone.
        let elsewhere = at.to_offset(time::UtcOffset::from_hms(9, 30, 0).unwrap());
        let elsewhere = text(elsewhere).replace('+', "%2B");
        let same = query(&client, &path, &format!("at={elsewhere}&consistency=ledger")).await;
        assert_eq!(position(&same), position(&answer));
        let shown = OffsetDateTime::parse(answer.text("at"), &Rfc3339).unwrap();
        assert_eq!(shown, at);
    }
    let before = query(&client, &path, &format!("at={}", text(first))).await;
    assert_eq!(position(&before), ("0.00".to_owned(), 0));
    // The present, by both ways.
    let end = expected(&movements, last + microsecond);
    assert_eq!(position(&client.get(&path).await), end);
    let present = query(&client, &path, "consistency=ledger").await;
    assert_eq!(position(&present), end);
    // The instant of the present answer gives the same balance, also later.
    let at = present.text("at").to_owned();
    client.deposit(&account, "1").await;
    let again = query(&client, &path, &format!("at={at}")).await;
    assert_eq!(again.body, present.body);
    let known = again.header("etag").unwrap();
    let known = client
        .send(reqwest::Method::GET, &format!("{path}?at={at}"), &[("if-none-match", known)], None)
        .await
        .unwrap();
    assert_eq!(known.status, 304);
}

#[tokio::test]
async fn a_past_balance_is_the_opening_balance_of_a_statement_from_then() {
    let stack = Stack::shared().await;
    let client = Client::teller(stack);
    let account = client.open_account("USD").await;
    for amount in ["10.10", "20.20", "30.30"] {
        client.deposit(&account, amount).await;
    }
    let movements = movements(stack, &account).await;
    for at in [movements[1].1, movements[2].1, movements[2].1 + Duration::microseconds(1)] {
        let now = OffsetDateTime::now_utc();
        let now = now.replace_nanosecond(now.microsecond() * 1_000).unwrap();
        let (from, to) = (text(at), text(now));
        let report = json!({ "kind": "statement", "accountId": account, "from": from, "to": to,
                             "timeZone": "UTC", "formats": ["json"] });
        let report = client.report(&report, 30).await;
        assert_eq!(report.text("state"), "SUCCEEDED", "{report:?}");
        let href = report.body["artifacts"][0]["href"].as_str().unwrap();
        let opening = client.get(href).await.body["opening"].clone();
        let path = format!("/v1/accounts/{account}/balances");
        let balance = query(&client, &path, &format!("at={from}")).await;
        assert_eq!(balance.body["accountSeq"], opening["accountSeq"], "{opening}");
        let decimal = |value: &serde_json::Value| tests::decimal(value);
        assert_eq!(decimal(&balance.body["balance"]), decimal(&opening["balance"]), "{opening}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_past_balance_waits_for_the_writers_of_that_time() {
    // Every statement and every past balance of the stack waits.
    let arguments = ["--port", "0", "--account-replicas", "1", "--transaction-replicas", "1"];
    let stack = Stack::start_in(&initialized_folder("past-writers").await, &arguments).await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    client.deposit(&account, "1").await;
    let path = format!("/v1/accounts/{account}/balances");
    // A writer that may have read the clock, and has not committed.
    let ledger = stack.ledger().await;
    let mut writer = ledger.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE accounts IN ROW EXCLUSIVE MODE").execute(&mut *writer).await.unwrap();
    let past = format!("at={}", text(OffsetDateTime::now_utc().replace_nanosecond(0).unwrap()));
    let answer = query(&client, &path, &past).await;
    assert_eq!((answer.status, answer.problem()), (503, "ledger-unavailable"), "{answer:?}");
    let present = query(&client, &path, "consistency=ledger").await;
    assert_eq!(position(&present), ("1".to_owned(), 1));
    // It is answered as soon as the writer has ended.
    let waiting = query(&client, &path, &past);
    let ends = async {
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        writer.rollback().await.unwrap();
    };
    let (answer, ()) = tokio::join!(waiting, ends);
    assert_eq!(answer.status, 200, "{answer:?}");

    // A movement that has its time, and is not committed. It is not in the present balance, nor
    // later in that of the same instant.
    let gate = "CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN NULL; END $$;
                CREATE TRIGGER gate AFTER INSERT ON transactions
                FOR EACH STATEMENT EXECUTE FUNCTION wait_at_gate()";
    sqlx::raw_sql(gate).execute(&ledger).await.unwrap();
    let mut closed = PgConnection::connect(&stack.file().databases.transaction).await.unwrap();
    sqlx::raw_sql("SELECT pg_advisory_lock(7)").execute(&mut closed).await.unwrap();
    let key = new_key();
    let deposit = client.movement("deposits", &account, "1", &key, Some(20));
    let read = async {
        eventually("the movement waits for its commit", SOON, || async {
            let waiting =
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
            let waiting: i64 = sqlx::query_scalar(waiting).fetch_one(&ledger).await.unwrap();
            (waiting > 0).then_some(())
        })
        .await;
        let present = query(&client, &path, "consistency=ledger").await;
        sqlx::raw_sql("SELECT pg_advisory_unlock(7)").execute(&mut closed).await.unwrap();
        present
    };
    let (deposit, present) = tokio::join!(deposit, read);
    assert_eq!(deposit.text("status"), "SUCCESS", "{deposit:?}");
    assert_eq!(position(&present), ("1".to_owned(), 1));
    let again = query(&client, &path, &format!("at={}", present.text("at"))).await;
    assert_eq!(again.body, present.body);
}

#[tokio::test]
async fn an_account_without_movements_had_nothing() {
    let client = Client::teller(Stack::shared().await);
    let account = client.open_account("KRW").await;
    let path = format!("/v1/accounts/{account}/balances");
    for parameters in ["at=2026-01-01T00:00:00Z", "at=0001-01-01T00:00:00Z", "consistency=ledger"] {
        let answer = query(&client, &path, parameters).await;
        assert_eq!(position(&answer), ("0".to_owned(), 0), "{answer:?}");
    }
    assert_eq!(position(&client.get(&path).await), ("0".to_owned(), 0));
    let present = query(&client, &path, "consistency=ledger").await;
    client.deposit(&account, "1").await;
    let again = query(&client, &path, &format!("at={}", present.text("at"))).await;
    assert_eq!(again.body, present.body);
}

#[tokio::test]
async fn other_owners_and_invalid_parameters_get_a_problem() {
    let stack = Stack::shared().await;
    let (ann, ben) = (Client::merchant(stack, &new_key()), Client::merchant(stack, &new_key()));
    let opened = ann.post("/v1/accounts", &[], &json!({ "currency": "KRW" })).await;
    let account = opened.text("accountId");
    let record = ann.deposit(account, "5").await;
    let record = format!("/v1/records/{}", record.text("recordId"));
    let (account, balances) =
        (format!("/v1/accounts/{account}"), format!("/v1/accounts/{account}/balances"));
    let past = "at=2026-01-01T00:00:00Z";
    for (path, parameters, problem) in [
        (&balances, past, "account-not-found"),
        (&balances, "consistency=ledger", "account-not-found"),
        (&balances, "", "account-not-found"),
        (&account, "consistency=ledger", "account-not-found"),
        (&record, "consistency=ledger", "record-not-found"),
    ] {
        let foreign = query(&ben, path, parameters).await;
        assert_eq!((foreign.status, foreign.problem()), (404, problem), "{foreign:?}");
        let own = query(&ann, path, parameters).await;
        assert_eq!(own.status, 200, "{own:?}");
    }
    let missing = format!("/v1/accounts/{}/balances", new_key());
    assert_eq!(query(&ann, &missing, past).await.problem(), "account-not-found");

    let ahead = text(OffsetDateTime::now_utc() + Duration::minutes(1));
    for (path, parameters, status, problem, field) in [
        (&balances, "at=2026-01-01", 422, "invalid-field", "at"),
        (&balances, "at=", 422, "invalid-field", "at"),
        (&balances, "at=2026-01-01T00:00:00.1234567Z", 422, "invalid-field", "at"),
        (&balances, "at=2026-01-01T00:00:00", 422, "invalid-field", "at"),
        (&balances, "at=9999-12-31T23:59:59-23:59", 422, "invalid-field", "at"),
        (&balances, "at=0000-01-01T00:00:00Z", 422, "invalid-field", "at"),
        (&balances, "at=9999-12-31T23:59:59Z", 422, "invalid-field", "at"),
        (&balances, &*format!("at={ahead}"), 422, "invalid-field", "at"),
        (&balances, &*format!("{past}&consistency=strong"), 422, "invalid-field", "consistency"),
        (&balances, &*format!("{past}&{past}"), 400, "invalid-query", "at"),
        (&balances, "time=1", 400, "invalid-query", "time"),
        (&account, "consistency=", 422, "invalid-field", "consistency"),
        (&account, "consistancy=ledger", 400, "invalid-query", "consistancy"),
        (&record, "consistency=LEDGER", 422, "invalid-field", "consistency"),
        (&record, "at=1", 400, "invalid-query", "at"),
    ] {
        let answer = query(&ann, path, parameters).await;
        let shown = (answer.status, answer.problem(), answer.text("field"));
        assert_eq!(shown, (status, problem, field), "{path}?{parameters} {answer:?}");
    }
}
