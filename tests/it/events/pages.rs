//! The log page by page: contents, order, filters, and who sees what.

use contract::Scope;
use serde_json::{Value, json};
use tests::{Client, Stack, client::new_key};

use super::{all, assert_gapless, items, text};

async fn merchant(stack: &Stack) -> Client {
    Client::merchant(stack, &new_key())
}

#[tokio::test]
async fn events_tell_what_happened_to_an_account_in_order() {
    let stack = Stack::shared().await;
    let (client, teller) = (merchant(stack).await, Client::teller(stack));
    let labels = json!({ "currency": "KRW", "reference": "customer 17", "metadata": { "a": "b" } });
    let opened = client.post("/v1/accounts", &[], &labels).await;
    let account = opened.text("accountId");
    let mut records = Vec::new();
    records.push(client.deposit(account, "100").await);
    records.push(client.withdraw(account, "1000").await);
    records.push(client.withdraw(account, "40").await);
    // Replayed requests are no events.
    let key = new_key();
    for _ in 0..2 {
        let record = client.movement("deposits", account, "1", &key, Some(20)).await;
        assert_eq!(record.text("status"), "SUCCESS");
        records.truncate(3);
        records.push(record);
    }
    let (events, end) = all(&client, "", None, 20).await;
    assert_gapless(&events);
    let types: Vec<_> = events.iter().map(|event| text(event, "type")).collect();
    let [created, succeeded, failed] = ["account.created", "record.succeeded", "record.failed"];
    assert_eq!(types, [created, succeeded, failed, succeeded, succeeded]);
    let seqs: Vec<_> = events.iter().map(|event| event["accountSeq"].as_i64()).collect();
    assert_eq!(seqs, [None, Some(1), None, Some(2), Some(3)]);
    for field in ["accountId", "ownerId", "currency", "reference", "metadata", "createdAt"] {
        assert_eq!(events[0]["data"][field], opened.body[field], "{field}");
    }
    for (event, record) in events[1..].iter().zip(&records) {
        assert_eq!(event["data"], record.body);
        assert!(text(event, "timestamp") >= record.text("updatedAt"), "{event:#}");
    }
    // In pages of any size, for every reader, and after every event.
    assert_eq!(all(&client, "", None, 1).await, (events.clone(), end.clone()));
    let of_account = format!("&accountId={account}");
    for reader in [&client, &teller] {
        assert_eq!(all(reader, &of_account, None, 2).await, (events.clone(), end.clone()));
        for (at, event) in events.iter().enumerate() {
            let (rest, _) = all(reader, &of_account, Some(text(event, "id")), 3).await;
            assert_eq!(rest, events[at + 1..]);
        }
    }
    let of_all: Vec<_> = all(&teller, "", None, 100).await.0;
    let found: Vec<_> = of_all.into_iter().filter(|event| event["accountId"] == *account).collect();
    assert_eq!(found, events);
    for (kind, at) in [(created, &[0][..]), (succeeded, &[1, 3, 4]), (failed, &[2])] {
        let expected: Vec<_> = at.iter().map(|at| events[*at].clone()).collect();
        for query in [format!("&type={kind}"), format!("&type={kind}{of_account}")] {
            for limit in [1, 2, 20] {
                let (found, last) = all(&client, &query, None, limit).await;
                assert_eq!(found, expected, "{query}");
                assert_eq!(all(&client, "", Some(&last), 20).await.0, Vec::<Value>::new());
            }
        }
    }
    // At the end, the cursor stays, until there is something new.
    let (none, still) = all(&client, "", Some(&end), 20).await;
    assert_eq!((none, &still), (Vec::new(), &end));
    client.deposit(account, "5").await;
    let (new, _) = all(&client, "", Some(&end), 20).await;
    assert_eq!((new.len(), &new[0]["sequence"]), (1, &json!(6)));
}

#[tokio::test]
async fn an_empty_log_has_a_cursor_too() {
    let stack = Stack::shared().await;
    let client = merchant(stack).await;
    let (none, start) = all(&client, "", None, 20).await;
    assert_eq!(none, Vec::<Value>::new());
    let accounts = [client.open_account("KRW").await, client.open_account("EUR").await];
    client.deposit(&accounts[0], "5").await;
    client.deposit(&accounts[1], "5").await;
    let (events, _) = all(&client, "", Some(&start), 1).await;
    assert_eq!(events.len(), 4);
    assert_gapless(&events);
    assert_eq!(all(&client, "", Some(&start), 3).await.0, events);
}

#[tokio::test]
async fn events_of_other_owners_do_not_exist() {
    let stack = Stack::shared().await;
    let (ann, ben) = (merchant(stack).await, merchant(stack).await);
    let of_ben = ben.open_account("KRW").await;
    ben.deposit(&of_ben, "5").await;
    let (of_ben_events, ben_end) = all(&ben, "", None, 20).await;
    assert_eq!(of_ben_events.len(), 2);
    assert_eq!(all(&ann, "", None, 20).await.0, Vec::<Value>::new());
    let by_account = ann.get(&format!("/v1/events?accountId={of_ben}")).await;
    let unknown = ann.get(&format!("/v1/events?accountId={}", new_key())).await;
    for hidden in [&by_account, &unknown] {
        assert_eq!((hidden.status, hidden.problem()), (404, "account-not-found"), "{hidden:?}");
    }
    let own = ann.open_account("KRW").await;
    for cursor in [&ben_end, text(&of_ben_events[0], "id")] {
        for query in [format!("after={cursor}"), format!("accountId={own}&after={cursor}")] {
            let hidden = ann.get(&format!("/v1/events?{query}")).await;
            let found = (hidden.status, hidden.problem(), hidden.text("field"));
            assert_eq!(found, (400, "invalid-cursor", "after"), "{hidden:?}");
        }
    }
    // The other way round: a reader of everything may go on after any event.
    let (after, _) = all(&Client::teller(stack), "", Some(&ben_end), 100).await;
    assert!(after.iter().any(|event| event["accountId"] == *own));
    let others = Scope::ALL.into_iter().filter(|scope| *scope != Scope::EventsRead);
    let without = Client::user(stack, "someone", others.collect());
    let refused = without.get("/v1/events").await;
    assert_eq!((refused.status, refused.problem()), (403, "forbidden"), "{refused:?}");
}

#[tokio::test]
async fn bad_parameters_are_named() {
    let stack = Stack::shared().await;
    let client = merchant(stack).await;
    client.open_account("KRW").await;
    let (_, end) = all(&client, "", None, 20).await;
    let records = client.get("/v1/accounts?limit=1").await;
    let other_list = records.text("nextCursor").to_owned();
    let changed = format!("{}{}", &end[..31], if end.ends_with('A') { "E" } else { "A" });
    for (query, status, problem, field) in [
        ("after=".to_owned(), 400, "invalid-cursor", "after"),
        ("after=7".to_owned(), 400, "invalid-cursor", "after"),
        (format!("after={}", new_key()), 400, "invalid-cursor", "after"),
        (format!("after={end}A"), 400, "invalid-cursor", "after"),
        (format!("after={changed}"), 400, "invalid-cursor", "after"),
        (format!("after={other_list}"), 400, "invalid-cursor", "after"),
        ("type=record.pending".to_owned(), 422, "invalid-field", "type"),
        ("type=".to_owned(), 422, "invalid-field", "type"),
        ("accountId=one".to_owned(), 422, "invalid-field", "accountId"),
        ("limit=0".to_owned(), 422, "invalid-field", "limit"),
        ("limit=101".to_owned(), 422, "invalid-field", "limit"),
        ("cursor=a".to_owned(), 400, "invalid-query", "cursor"),
        (format!("after={end}&after={end}"), 400, "invalid-query", "after"),
    ] {
        let answer = client.get(&format!("/v1/events?{query}")).await;
        let found = (answer.status, answer.problem(), answer.text("field"));
        assert_eq!(found, (status, problem, field), "{query}: {answer:?}");
    }
    let fine = client.get("/v1/events").await;
    assert_eq!(items(&fine).len(), 1);
}
