//! The audit log: who did what to which resource, and that nothing of it changes.

use contract::Scopes;
use reqwest::Method;
use serde_json::{Value, json};
use tests::{Client, Response, Stack, client::new_key};

/// The entries of a page, as action and resource.
fn entries(page: &Response) -> Vec<(String, String)> {
    let items = page.body["items"].as_array().unwrap_or_else(|| panic!("{page:?}"));
    let text = |entry: &Value, field: &str| entry[field].as_str().unwrap().to_owned();
    items.iter().map(|entry| (text(entry, "action"), text(entry, "resource"))).collect()
}

#[tokio::test]
async fn the_log_tells_who_changed_access_or_acted_for_others() {
    let stack = Stack::shared().await;
    let (name, owner) = (new_key(), new_key());
    let client = Client::user(stack, &name, Scopes::all());
    let body = json!({ "name": "a test", "scopes": ["accounts:read"], "userId": owner });
    let key = new_key();
    let headers = [("idempotency-key", key.as_str())];
    let created = client.post("/v1/api-keys", &headers, &body).await;
    assert_eq!(created.status, 201, "{created:?}");
    let api_key = format!("/v1/api-keys/{}", created.text("apiKeyId"));
    // A retry, and what is refused, change nothing.
    assert_eq!(client.post("/v1/api-keys", &headers, &body).await.status, 201);
    assert_eq!(client.post("/v1/api-keys", &headers, &json!({})).await.status, 422);
    let for_other = json!({ "currency": "KRW", "ownerId": owner });
    let mut accounts = Vec::new();
    for headers in [&[][..], &headers, &headers] {
        let opened = client.post("/v1/accounts", headers, &for_other).await;
        assert_eq!(opened.status, 201, "{opened:?}");
        accounts.push(format!("/v1/accounts/{}", opened.text("accountId")));
    }
    assert_eq!(accounts[1], accounts[2]);
    let own = client.open_account("KRW").await;
    // A machine in this user's name, whose key may also read the log.
    let scopes = ["accounts:write", "accounts:any", "audit:read"];
    let body = json!({ "name": "a test", "scopes": scopes, "userId": name });
    let key_of_user = client.post("/v1/api-keys", &[], &body).await;
    let machine = Client::new(&stack.file().api, key_of_user.text("secret"));
    let opened = machine.post("/v1/accounts", &[], &for_other).await;
    assert_eq!(opened.status, 201, "{opened:?}");
    accounts.push(format!("/v1/accounts/{}", opened.text("accountId")));
    for _ in 0..2 {
        let revoked = client.send(Method::DELETE, &api_key, &[], None).await.unwrap();
        assert_eq!(revoked.status, 204, "{revoked:?}");
    }

    let of_actor = machine.get(&format!("/v1/audit-log?actor={name}")).await;
    let key_of_user = key_of_user.text("apiKeyId");
    let expected: Vec<_> = [
        ("api-key.revoked", &api_key),
        ("account.created", &accounts[3]),
        ("api-key.created", &format!("/v1/api-keys/{key_of_user}")),
        ("account.created", &accounts[1]),
        ("account.created", &accounts[0]),
        ("api-key.created", &api_key),
    ]
    .map(|(action, resource)| (action.to_owned(), resource.clone()))
    .into();
    assert_eq!(entries(&of_actor), expected, "{of_actor:?}");
    let all = |field: &str| -> Vec<_> {
        (0..6).map(|at| of_actor.body["items"][at][field].clone()).collect()
    };
    let details = all("details");
    assert_eq!(details[0], json!({}));
    assert_eq!(details[3], json!({ "ownerId": owner, "currency": "KRW" }));
    assert_eq!(details[5], json!({ "userId": owner, "scopes": "accounts:read" }));
    let api_keys = [Value::Null, json!(key_of_user), Value::Null, Value::Null, Value::Null];
    assert_eq!(all("apiKeyId")[..5], api_keys);
    let whole = of_actor.body.to_string();
    assert!(!whole.contains(&created.text("secret")[4..]) && !whole.contains(&own), "{whole}");

    for (query, at) in [
        (format!("actor={name}&action=account.created"), &[1, 3, 4][..]),
        (format!("actor={name}&action=api-key.revoked"), &[0]),
        (format!("resource={api_key}"), &[0, 5]),
        (format!("resource={api_key}&action=api-key.created"), &[5]),
        (format!("resource={api_key}&actor={owner}"), &[]),
        (format!("actor={owner}"), &[]),
    ] {
        let found = client.get(&format!("/v1/audit-log?{query}")).await;
        let expected: Vec<_> = at.iter().map(|at| expected[*at].clone()).collect();
        assert_eq!(entries(&found), expected, "{query}");
    }
    for query in ["action=account.created&", ""] {
        let all = client.get(&format!("/v1/audit-log?{query}limit=100")).await;
        assert!(entries(&all).contains(&expected[1]), "{all:?}");
    }
    let refused = Client::customer(stack, &name).get("/v1/audit-log").await;
    assert_eq!((refused.status, refused.problem()), (403, "forbidden"));
}

#[tokio::test]
async fn the_log_has_pages_and_checks_its_query() {
    let stack = Stack::shared().await;
    let name = new_key();
    let client = Client::user(stack, &name, Scopes::all());
    let mut opened = Vec::new();
    for _ in 0..3 {
        let account = json!({ "currency": "KRW", "ownerId": new_key() });
        let account = client.post("/v1/accounts", &[], &account).await;
        opened.push(format!("/v1/accounts/{}", account.text("accountId")));
    }
    opened.reverse();
    let path = format!("/v1/audit-log?limit=2&actor={name}");
    let first = client.get(&path).await;
    let cursor = first.text("nextCursor");
    let second = client.get(&format!("{path}&cursor={cursor}")).await;
    let pages = entries(&first).into_iter().chain(entries(&second));
    assert_eq!(pages.map(|(_, resource)| resource).collect::<Vec<_>>(), opened);
    assert_eq!(second.body["nextCursor"], Value::Null);
    let long = "x".repeat(256);
    for (query, field, status, problem) in [
        (format!("cursor={cursor}"), "cursor", 400, "invalid-cursor"),
        ("action=account.opened".to_owned(), "action", 422, "invalid-field"),
        (format!("actor={long}"), "actor", 422, "invalid-field"),
        (format!("resource={long}"), "resource", 422, "invalid-field"),
        ("resource=%20".to_owned(), "resource", 422, "invalid-field"),
        ("limit=0".to_owned(), "limit", 422, "invalid-field"),
        ("since=1".to_owned(), "since", 400, "invalid-query"),
    ] {
        let refused = client.get(&format!("/v1/audit-log?{query}")).await;
        let found = (refused.status, refused.problem(), refused.text("field"));
        assert_eq!(found, (status, problem, field), "{query}: {refused:?}");
    }
}

#[tokio::test]
async fn nobody_changes_the_log() {
    let stack = Stack::shared().await;
    let client = Client::user(stack, &new_key(), Scopes::all());
    let account = json!({ "currency": "KRW", "ownerId": new_key() });
    assert_eq!(client.post("/v1/accounts", &[], &account).await.status, 201);
    // The owner of the database.
    for database in [stack.accounts().await, stack.reports().await] {
        for statement in [
            "UPDATE audit_log SET actor = 'mallory'",
            "DELETE FROM audit_log",
            "TRUNCATE audit_log",
        ] {
            let refused = sqlx::raw_sql(statement).execute(&database).await.unwrap_err();
            let refused = refused.to_string();
            assert!(refused.contains("rows are only added to the audit log"), "{refused}");
        }
    }
}
