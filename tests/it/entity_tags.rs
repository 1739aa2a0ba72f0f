//! `ETag` and `If-None-Match` of accounts and records.

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Client, Response, Stack, client::new_key};

async fn get(client: &Client, path: &str, headers: &[(&str, &str)]) -> Response {
    client.send(Method::GET, path, headers, None).await.unwrap()
}

/// A 304 has the tag and no body.
fn assert_not_modified(answer: &Response, tag: &str) {
    assert_eq!((answer.status, answer.bytes.len()), (304, 0), "{answer:?}");
    assert_eq!(answer.header("etag"), Some(tag), "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{answer:?}");
}

#[tokio::test]
async fn a_client_that_knows_an_account_or_a_record_gets_no_body() {
    let stack = Stack::shared().await;
    let (ann, ben) = (Client::merchant(stack, &new_key()), Client::merchant(stack, &new_key()));
    let opened = ann.post("/v1/accounts", &[], &json!({ "currency": "KRW" })).await;
    let account = format!("/v1/accounts/{}", opened.text("accountId"));
    let tag = opened.header("etag").unwrap().to_owned();
    assert!(tag.starts_with('"') && tag.ends_with('"'), "{tag}");
    let shown = ann.get(&account).await;
    assert_eq!((shown.status, shown.header("etag")), (200, Some(&*tag)), "{shown:?}");
    for known in [tag.clone(), format!("W/{tag}"), "*".to_owned(), format!("\"x\", {tag}")] {
        assert_not_modified(&get(&ann, &account, &[("if-none-match", &known)]).await, &tag);
    }
    let head = ann.send(Method::HEAD, &account, &[("if-none-match", &*tag)], None).await.unwrap();
    assert_not_modified(&head, &tag);
    let other = get(&ann, &account, &[("if-none-match", "\"x\"")]).await;
    assert_eq!((other.status, &other.body), (200, &shown.body));
    // Another owner learns nothing.
    let foreign = get(&ben, &account, &[("if-none-match", "*")]).await;
    assert_eq!((foreign.status, foreign.problem()), (404, "account-not-found"), "{foreign:?}");

    // A movement changes the account.
    let deposited = ann.deposit(opened.text("accountId"), "5").await;
    let changed = get(&ann, &account, &[("if-none-match", &tag)]).await;
    assert_eq!((changed.status, changed.text("balance")), (200, "5"), "{changed:?}");
    assert_ne!(changed.header("etag"), Some(&*tag));

    // The tag of a POST is that of the record.
    let record = format!("/v1/records/{}", deposited.text("recordId"));
    let tag = deposited.header("etag").unwrap();
    assert_not_modified(&get(&ann, &record, &[("if-none-match", tag)]).await, tag);
    // A settled record is not waited for.
    let known = [("if-none-match", tag), ("prefer", "wait=20")];
    assert_not_modified(&get(&ann, &record, &known).await, tag);
    let foreign = get(&ben, &record, &[("if-none-match", "*")]).await;
    assert_eq!((foreign.status, foreign.problem()), (404, "record-not-found"), "{foreign:?}");
    // Lists have no tag, and ignore the condition.
    for list in ["/v1/accounts", &format!("{account}/records")] {
        let page = get(&ann, list, &[("if-none-match", "*")]).await;
        assert_eq!((page.status, page.header("etag")), (200, None), "{page:?}");
    }
    let missing = format!("/v1/records/{}", new_key());
    assert_eq!(get(&ann, &missing, &[("if-none-match", "*")]).await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_known_pending_record_is_waited_for() {
    let stack = Stack::start("entity-tags").await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    let paused = stack.pause_workers();
    let pending = client.movement("deposits", &account, "1", &new_key(), None).await;
    assert_eq!((pending.status, pending.text("status")), (202, "PENDING"), "{pending:?}");
    let path = format!("/v1/records/{}", pending.text("recordId"));
    let tag = pending.header("etag").unwrap();
    let still = get(&client, &path, &[("if-none-match", tag), ("prefer", "wait=1")]).await;
    assert_not_modified(&still, tag);
    assert_eq!(still.header("preference-applied"), Some("wait=1"), "{still:?}");
    let known = [("if-none-match", tag), ("prefer", "wait=30")];
    let (settled, ()) = tokio::join!(get(&client, &path, &known), async {
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        drop(paused);
    });
    assert_eq!((settled.status, &settled.body["status"]), (200, &Value::from("SUCCESS")));
    assert_ne!(settled.header("etag"), Some(tag));
    assert_eq!(client.get(&path).await.header("etag"), settled.header("etag"));
}
