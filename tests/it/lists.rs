//! Lists of accounts and of an account's records: filters, pages, and what a cursor is bound to.

use std::collections::BTreeSet;

use contract::Scopes;
use serde_json::{Value, json};
use tests::{Client, Response, Stack, client::new_key};

/// A user whom no other test knows.
fn user(stack: &Stack, client: fn(&Stack, &str) -> Client) -> (Client, String) {
    let name = new_key();
    (client(stack, &name), name)
}

fn ids<'a>(page: &'a Response, field: &str) -> Vec<&'a str> {
    let items = page.body["items"].as_array().unwrap_or_else(|| panic!("{page:?}"));
    items.iter().map(|item| item[field].as_str().unwrap()).collect()
}

/// All pages of a list of up to two items each.
async fn all(client: &Client, path: &str, field: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = client.get(&format!("{path}limit=2{cursor}")).await;
        assert_eq!(page.status, 200, "{page:?}");
        found.extend(ids(&page, field).into_iter().map(str::to_owned));
        match page.body["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}

fn assert_invalid_cursor(answer: &Response) {
    let problem = (answer.status, answer.problem(), answer.text("field"));
    assert_eq!(problem, (400, "invalid-cursor", "cursor"), "{answer:?}");
}

#[tokio::test]
async fn accounts_are_listed_to_those_who_may_see_them() {
    let stack = Stack::shared().await;
    let teller = Client::teller(stack);
    let ((ann, ann_name), (ben, ben_name)) =
        (user(stack, Client::merchant), user(stack, Client::merchant));
    let of_ben = ben.open_account("USD").await;
    let mut of_ann = Vec::new();
    for _ in 0..5 {
        of_ann.push(ann.open_account("KRW").await);
    }
    ann.deposit(&of_ann[4], "7").await;
    of_ann.reverse();
    assert_eq!(all(&ann, "/v1/accounts?", "accountId").await, of_ann);
    assert_eq!(all(&ann, "/v1/accounts?status=ACTIVE&", "accountId").await, of_ann);
    assert_eq!(all(&ben, "/v1/accounts?", "accountId").await, [&*of_ben]);
    for client in [&ann, &teller] {
        let path = format!("/v1/accounts?ownerId={ann_name}&");
        assert_eq!(all(client, &path, "accountId").await, of_ann);
    }
    let first = ann.get("/v1/accounts?limit=1").await;
    assert_eq!(first.body["items"][0], ann.account(&of_ann[0]).await.as_listed());
    let newest = teller.get("/v1/accounts?limit=100").await;
    let newest = ids(&newest, "accountId");
    assert!(newest.contains(&&*of_ann[0]) && newest.contains(&&*of_ben), "{newest:?}");
    let mut sorted = newest.clone();
    sorted.sort_unstable_by(|one, other| other.cmp(one));
    assert_eq!(newest, sorted);

    let foreign = ann.get(&format!("/v1/accounts?ownerId={ben_name}")).await;
    assert_eq!((foreign.status, &foreign.body["items"]), (200, &json!([])), "{foreign:?}");
    let nobody = teller.get(&format!("/v1/accounts?ownerId={}", new_key())).await;
    assert_eq!((nobody.status, &nobody.body["items"]), (200, &Value::Array(Vec::new())));

    // A cursor goes on with its own list only.
    let next = ann.get("/v1/accounts?limit=2").await.text("nextCursor").to_owned();
    assert_invalid_cursor(&ben.get(&format!("/v1/accounts?cursor={next}")).await);
    assert_invalid_cursor(&teller.get(&format!("/v1/accounts?cursor={next}")).await);
    assert_invalid_cursor(&ann.get(&format!("/v1/accounts?status=ACTIVE&cursor={next}")).await);
    let records = format!("/v1/accounts/{}/records?cursor={next}", of_ann[0]);
    assert_invalid_cursor(&ann.get(&records).await);
    let other_limit = ann.get(&format!("/v1/accounts?limit=1&cursor={next}")).await;
    assert_eq!(ids(&other_limit, "accountId"), [&of_ann[2]]);

    for (query, status, problem, field) in [
        ("status=CLOSED", 422, "invalid-field", "status"),
        ("ownerId=two%20words", 422, "invalid-field", "ownerId"),
        ("owner=ann", 400, "invalid-query", "owner"),
        ("ownerid=ann", 400, "invalid-query", "ownerid"),
    ] {
        let answer = teller.get(&format!("/v1/accounts?{query}")).await;
        let found = (answer.status, answer.problem(), answer.text("field"));
        assert_eq!(found, (status, problem, field), "{query}: {answer:?}");
    }
}

#[tokio::test]
async fn records_are_filtered() {
    let stack = Stack::shared().await;
    let (ann, ann_name) = user(stack, Client::merchant);
    let (tim, tim_name) = user(stack, |stack, name| Client::user(stack, name, Scopes::all()));
    let account = ann.open_account("KRW").await;
    let keys: Vec<_> = (0..4).map(|_| new_key()).collect();
    let mut records = Vec::new();
    for (client, resource, amount, key) in [
        (&ann, "deposits", "5", &keys[0]),
        (&tim, "deposits", "5", &keys[1]),
        (&ann, "withdrawals", "6", &keys[2]),
        (&ann, "withdrawals", "60", &keys[3]),
        (&tim, "withdrawals", "1", &keys[0]),
    ] {
        let record = client.movement(resource, &account, amount, key, Some(20)).await;
        assert_eq!(record.status, 200, "{record:?}");
        records.push(record);
    }
    let id = |at: usize| records[at].text("recordId").to_owned();
    let time = |at: usize| records[at].text("createdAt");
    let path = format!("/v1/accounts/{account}/records?");
    for (query, expected) in [
        ("status=SUCCESS".to_owned(), &[4, 2, 1, 0][..]),
        ("status=FAILED".to_owned(), &[3]),
        ("status=PENDING".to_owned(), &[]),
        ("type=WITHDRAWAL".to_owned(), &[4, 3, 2]),
        ("type=WITHDRAWAL&status=SUCCESS".to_owned(), &[4, 2]),
        (format!("requestedBy={ann_name}"), &[3, 2, 0]),
        (format!("requestedBy={ann_name}&type=DEPOSIT"), &[0]),
        (format!("from={}", time(2)), &[4, 3, 2]),
        (format!("to={}", time(2)), &[1, 0]),
        (format!("from={}&to={}", time(1), time(3)), &[2, 1]),
        (format!("from={}&to={}&type=DEPOSIT", time(1), time(3)), &[1]),
        ("to=2020-01-01T00:00:00Z".to_owned(), &[]),
        ("from=9999-12-31T23:59:59Z".to_owned(), &[]),
        ("from=0001-01-01T00:00:00Z&to=9999-12-31T23:59:59Z".to_owned(), &[4, 3, 2, 1, 0]),
        (format!("idempotencyKey={}", keys[1]), &[1]),
        // The key of two callers.
        (format!("idempotencyKey={}&requestedBy={tim_name}", keys[0]), &[4]),
        (format!("idempotencyKey={}&requestedBy={ann_name}", keys[0]), &[0]),
        (format!("idempotencyKey={}&requestedBy=nobody", keys[0]), &[]),
        (format!("idempotencyKey={}&type=DEPOSIT", keys[0]), &[0]),
        (format!("idempotencyKey={}", new_key()), &[]),
    ] {
        let expected: Vec<_> = expected.iter().map(|at| id(*at)).collect();
        let found = all(&tim, &format!("{path}{query}&"), "recordId").await;
        assert_eq!(found, expected, "{query}");
    }
    let both = format!("{path}idempotencyKey={}&", keys[0]);
    assert_eq!(all(&tim, &both, "recordId").await, [id(4), id(0)]);

    let next = ann.get(&format!("{path}limit=2&type=WITHDRAWAL")).await;
    let next = next.text("nextCursor");
    let other = ann.open_account("KRW").await;
    for path in [
        format!("{path}cursor={next}"),
        format!("{path}type=DEPOSIT&cursor={next}"),
        format!("{path}type=WITHDRAWAL&status=SUCCESS&cursor={next}"),
        format!("/v1/accounts/{other}/records?type=WITHDRAWAL&cursor={next}"),
    ] {
        assert_invalid_cursor(&ann.get(&path).await);
    }
    for (query, status, problem, field) in [
        ("status=DONE", 422, "invalid-field", "status"),
        ("status=", 422, "invalid-field", "status"),
        ("type=GIFT", 422, "invalid-field", "type"),
        ("from=9999-12-31T23:59:59-23:59", 422, "invalid-field", "from"),
        ("from=yesterday", 422, "invalid-field", "from"),
        ("to=2026-11-29T09:00:00+09:00", 422, "invalid-field", "to"),
        ("from=2026-01-02T00:00:00Z&to=2026-01-02T00:00:00Z", 422, "invalid-field", "to"),
        ("idempotencyKey=", 422, "invalid-field", "idempotencyKey"),
        ("requestedBy=", 422, "invalid-field", "requestedBy"),
        ("state=FAILED", 400, "invalid-query", "state"),
        ("type=DEPOSIT&type=WITHDRAWAL", 400, "invalid-query", "type"),
    ] {
        let answer = ann.get(&format!("{path}{query}")).await;
        let found = (answer.status, answer.problem(), answer.text("field"));
        assert_eq!(found, (status, problem, field), "{query}: {answer:?}");
    }
    let seen: BTreeSet<_> = all(&ann, &path, "recordId").await.into_iter().collect();
    assert_eq!(seen.len(), 5);
}
