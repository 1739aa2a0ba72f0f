//! API keys: what they allow, until when, and that only their hashes are stored.

mod creation;
mod ends;

use std::time::Duration;

use contract::{ApiKeyId, Scopes};
use devstack::{Fault, Secrets};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tests::{Client, Response, Stack, client::new_key, eventually};
use tokio::time::{Instant, sleep};

const SOON: Duration = Duration::from_secs(30);

async fn create(client: &Client, body: &Value) -> Response {
    client.post("/v1/api-keys", &[], body).await
}

/// Creates a key as this caller. Gives its id, and a client with it at the proxy.
async fn key_of(stack: &Stack, creator: &Client, body: &Value) -> (String, Client) {
    let created = create(creator, body).await;
    assert_eq!(created.status, 201, "{created:?}");
    let client = Client::new(&stack.file().api, created.text("secret"));
    (created.text("apiKeyId").to_owned(), client)
}

/// A key with these scopes.
async fn key(stack: &Stack, scopes: &[&str]) -> (String, Client) {
    let body = json!({ "name": "a test", "scopes": scopes });
    key_of(stack, &Client::admin(stack), &body).await
}

async fn revoke(client: &Client, id: &str) -> Response {
    client.send(Method::DELETE, &format!("/v1/api-keys/{id}"), &[], None).await.unwrap()
}

/// The key in the list.
async fn listed(client: &Client, id: &str) -> Value {
    let list = client.get("/v1/api-keys?limit=100").await;
    let mut items = list.body["items"].as_array().unwrap().iter();
    items.find(|key| key["apiKeyId"] == id).unwrap().clone()
}

fn assert_refused(response: &Response) {
    assert_eq!((response.status, response.problem()), (401, "unauthenticated"), "{response:?}");
    assert_eq!(response.text("detail"), "The API key is unknown, revoked or expired.");
}

#[tokio::test]
async fn a_key_allows_its_scopes_and_is_stored_as_a_hash() {
    let stack = Stack::shared().await;
    let admin = Client::admin(stack);
    let name = format!("billing {}", new_key());
    let scopes = ["accounts:read", "accounts:write", "deposits:write"];
    let created = create(&admin, &json!({ "name": name, "scopes": scopes })).await;
    assert_eq!(created.status, 201);
    let (id, secret) = (created.text("apiKeyId"), created.text("secret"));
    assert_eq!(created.header("location"), Some(&*format!("/v1/api-keys/{id}")));
    assert!(secret.starts_with(created.text("prefix")) && created.text("prefix").len() == 12);

    let machine = Client::new(&stack.file().api, secret);
    let account = machine.open_account("KRW").await;
    let shown = machine.account(&account).await;
    assert_eq!(shown.text("ownerId"), format!("key_{id}"));
    let deposit = machine.deposit(&account, "100").await;
    assert_eq!((deposit.status, deposit.text("requestedBy")), (200, &*format!("key_{id}")));
    let refused = machine.withdraw(&account, "1").await;
    assert_eq!((refused.status, refused.problem()), (403, "forbidden"));
    // Reports take tokens only.
    let reports = machine.get("/v1/reports").await;
    assert_eq!(reports.status, 401);
    assert!(reports.text("detail").contains("no API keys"), "{reports:?}");

    let listed = listed(&admin, id).await;
    assert_eq!((&listed["name"], &listed["createdBy"]), (&json!(name), &json!("admin")));
    let mut without_secret = created.body.clone();
    without_secret.as_object_mut().unwrap().remove("secret");
    assert_eq!(listed, without_secret);
    let row: (Vec<u8>, String) =
        sqlx::query_as("SELECT secret_hash, api_keys::text FROM api_keys WHERE id = $1")
            .bind(id.parse::<ApiKeyId>().unwrap().as_uuid())
            .fetch_one(&stack.accounts().await)
            .await
            .unwrap();
    assert_eq!(row.0, Sha256::digest(secret).to_vec());
    assert!(!row.1.contains(&secret[4..]));
}

#[tokio::test]
async fn a_movement_names_its_key_even_if_the_key_acts_for_a_user() {
    let stack = Stack::shared().await;
    let ann = new_key();
    let (user, bank) = (Client::merchant(stack, &ann), Client::user(stack, "bank", Scopes::all()));
    let account = user.open_account("KRW").await;
    let for_ann =
        json!({ "name": "a test", "scopes": ["accounts:read", "deposits:write"], "userId": ann });
    let (id, machine) = key_of(stack, &bank, &for_ann).await;
    let (_, successor) = key_of(stack, &bank, &for_ann).await;
    let scopes = ["accounts:read", "accounts:any", "deposits:write"];
    let own = json!({ "name": "a test", "scopes": scopes });
    let (id_of_bank, machine_of_bank) = key_of(stack, &bank, &own).await;
    let key = new_key();
    let deposit =
        async |client: &Client| client.movement("deposits", &account, "1", &key, Some(10)).await;

    let first = deposit(&machine).await;
    assert_eq!((first.status, first.text("requestedBy")), (200, &*ann), "{first:?}");
    assert_eq!(first.text("apiKeyId"), id);
    // A retry is the same request with any key, and with a token.
    for client in [&successor, &user] {
        let again = deposit(client).await;
        assert_eq!(again.header("idempotent-replayed"), Some("true"), "{again:?}");
        assert_eq!(again.body, first.body);
    }
    // Another caller has the idempotency key, too.
    let other = deposit(&machine_of_bank).await;
    assert_eq!(other.text("apiKeyId"), id_of_bank, "{other:?}");
    let item = |key: &str| json!({ "accountId": account, "type": "DEPOSIT", "amount": "1", "idempotencyKey": key });
    let batch = json!({ "items": [item(&key), item(&new_key())] });
    let batch = successor.post("/v1/batches", &[], &batch).await;
    assert_eq!(batch.body["items"][0]["record"]["apiKeyId"], id, "{batch:?}");
    user.deposit(&account, "1").await;
    let list = user.get(&format!("/v1/accounts/{account}/records")).await;
    let keys: Vec<_> =
        list.body["items"].as_array().unwrap().iter().map(|item| &item["apiKeyId"]).collect();
    let in_batch = &batch.body["items"][1]["record"]["apiKeyId"];
    assert!(in_batch.is_string() && *in_batch != id, "{batch:?}");
    assert_eq!(keys, [&Value::Null, in_batch, &json!(id_of_bank), &json!(id)]);
}

#[tokio::test]
async fn a_key_sees_what_its_user_sees_and_no_more() {
    let stack = Stack::shared().await;
    let (ann, bob) = (new_key(), new_key());
    let scopes = ["accounts:read", "accounts:write", "withdrawals:write"];
    let body = json!({ "name": "of ann", "scopes": scopes, "userId": ann });
    let (_, machine) = key_of(stack, &Client::admin(stack), &body).await;
    let (_, own) = key(stack, &scopes).await;
    let [ann, bob] = [ann, bob].map(|name| Client::customer(stack, &name));
    let (of_ann, of_bob) = (ann.open_account("KRW").await, bob.open_account("KRW").await);
    for (client, account, expected) in
        [(&machine, &of_ann, 200), (&machine, &of_bob, 404), (&own, &of_ann, 404)]
    {
        assert_eq!(client.account(account).await.status, expected);
        assert_eq!(client.withdraw(account, "1").await.status, expected);
        let list = client.get(&format!("/v1/accounts/{account}/records")).await;
        assert_eq!(list.status, expected);
    }
    let ids = |list: &Response| {
        let items = list.body["items"].as_array().unwrap().iter();
        items.map(|account| account["accountId"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&machine.get("/v1/accounts").await), [json!(of_ann)]);
    assert!(ids(&own.get("/v1/accounts").await).is_empty());
    // The caller is the same: so is the request with the same idempotency key.
    let key = new_key();
    let first = ann.movement("withdrawals", &of_ann, "5", &key, Some(20)).await;
    let again = machine.movement("withdrawals", &of_ann, "5", &key, Some(20)).await;
    assert_eq!(again.text("recordId"), first.text("recordId"));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
}

#[tokio::test]
async fn the_list_of_keys_is_read_page_by_page() {
    let stack = Stack::shared().await;
    let admin = Client::admin(stack);
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.insert(0, key(stack, &["accounts:read"]).await.0);
    }
    let (mut read, mut path) = (Vec::<String>::new(), "/v1/api-keys?limit=2".to_owned());
    while !ids.iter().all(|id| read.contains(id)) {
        let page = admin.get(&path).await;
        assert_eq!(page.status, 200, "{page:?}");
        let items = page.body["items"].as_array().unwrap();
        assert_eq!(items.len(), 2);
        read.extend(items.iter().map(|key| key["apiKeyId"].as_str().unwrap().to_owned()));
        path = format!("/v1/api-keys?limit=2&cursor={}", page.text("nextCursor"));
    }
    // Other tests create keys meanwhile.
    read.retain(|id| ids.contains(id));
    assert_eq!(read, ids);
    for query in ["limit=0", "limit=101", "cursor=x", "name=x"] {
        let refused = admin.get(&format!("/v1/api-keys?{query}")).await;
        assert!([400, 422].contains(&refused.status), "{query}: {refused:?}");
    }
}

#[tokio::test]
async fn no_token_passes_as_a_key_and_no_guess_as_one() {
    let stack = Stack::shared().await;
    let (id, machine) = key(stack, &["accounts:read"]).await;
    let secrets = Secrets::read(&stack.dir).unwrap();
    let name = format!("key_{id}");
    let token = secrets.token(&name, Scopes::all(), time::Duration::hours(1)).unwrap();
    let response = Client::new(&stack.file().api, &token).get("/v1/accounts").await;
    assert_eq!(response.status, 401);
    assert!(response.text("detail").contains("key_"), "{response:?}");
    let secret = machine.token();
    for text in [
        "pbk_".to_owned(),
        format!("pbk_{}", "A".repeat(43)),
        format!("pbk_{}", "A".repeat(4000)),
        // The right prefix with another rest.
        format!("{}{}", &secret[..12], "A".repeat(35)),
        format!("{secret}A"),
        secret[..46].to_owned(),
        secret[4..].to_owned(),
        secret.replace("pbk_", "PBK_"),
        secret.replace("pbk_", "pbk-"),
    ] {
        let response = Client::new(&stack.file().api, &text).get("/v1/accounts").await;
        assert_eq!((response.status, response.problem()), (401, "unauthenticated"), "{text}");
        if text.starts_with("pbk_") {
            assert_refused(&response);
        }
        assert!(!response.body.to_string().contains(&secret[12..46]), "it repeats the key");
    }
    assert_eq!(machine.get("/v1/accounts").await.status, 200);
    assert_eq!(machine.get("/v1/api-keys").await.status, 403);
    // Neither valid nor refused keys are in a log.
    for log in std::fs::read_dir(stack.dir.join("logs")).unwrap() {
        let log = log.unwrap().path();
        let text = String::from_utf8_lossy(&std::fs::read(&log).unwrap()).into_owned();
        assert!(!text.contains(&secret[12..46]), "{}", log.display());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_database_a_key_gets_503_and_never_401() {
    let stack = Stack::start_with_faults("api-keys").await;
    let (_, cached) = key(&stack, &["accounts:read"]).await;
    let (_, cold) = key(&stack, &["accounts:read"]).await;
    let [cached, cold] = [cached, cold].map(|client| client.at(&stack, "account-service-0"));
    assert_eq!(cached.get("/v1/accounts").await.status, 200);
    stack.fault("account-service-0/postgres", Fault::Refuse).await;
    let begun = Instant::now();
    // For longer than a key is cached.
    while begun.elapsed() < Duration::from_secs(7) {
        for client in [&cached, &cold] {
            let response = client.get("/v1/accounts").await;
            assert_eq!((response.status, response.problem()), (503, "unavailable"), "{response:?}");
            assert!(response.header("retry-after").is_some());
        }
        sleep(Duration::from_millis(100)).await;
    }
    stack.fault("account-service-0/postgres", Fault::Pass).await;
    for client in [&cached, &cold] {
        eventually("the key is accepted again", SOON, async || {
            let response = client.get("/v1/accounts").await;
            assert_ne!(response.status, 401, "{response:?}");
            (response.status == 200).then_some(())
        })
        .await;
    }
}
