//! Authentication by token, authorization by owner, and the limits of a caller. `scopes` has the
//! authorization by scope.

use contract::{AccountId, Scopes};
use devstack::Secrets;
use reqwest::Method;
use serde_json::json;
use tests::{Client, Response, Stack, client::new_key, eventually, stack::initialized_folder};
use time::Duration;

async fn get_account(client: &Client, account: &str, authorization: &str) -> Response {
    let headers = [("authorization", authorization)];
    client.send(Method::GET, &format!("/v1/accounts/{account}"), &headers, None).await.unwrap()
}

#[tokio::test]
async fn a_request_without_a_valid_token_is_rejected() {
    let stack = Stack::shared().await;
    let client = Client::teller(stack);
    let account = client.open_account("KRW").await;
    let secrets = Secrets::read(&stack.dir).unwrap();
    let expired = secrets.token("teller", Scopes::all(), Duration::hours(-1)).unwrap();
    let valid = secrets.token("teller", Scopes::all(), Duration::hours(1)).unwrap();
    let (signed, _) = valid.rsplit_once('.').unwrap();
    // {"alg":"none","typ":"JWT"} before the same claims, and no signature.
    let claims = signed.split('.').nth(1).unwrap();
    let unsigned = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}.");
    for (name, authorization) in [
        ("no scheme", valid.clone()),
        ("another scheme", format!("Basic {valid}")),
        ("expired", format!("Bearer {expired}")),
        ("no signature", format!("Bearer {signed}.")),
        ("another signature", format!("Bearer {signed}.{}", "A".repeat(86))),
        ("algorithm none", format!("Bearer {unsigned}")),
        ("not a token", "Bearer x".to_owned()),
    ] {
        let response = get_account(&client, &account, &authorization).await;
        assert_eq!((response.status, response.problem()), (401, "unauthenticated"), "{name}");
        assert_eq!(response.header("www-authenticate"), Some("Bearer"), "{name}");
        assert!(
            !response.body.to_string().contains(&valid),
            "{name}: the response repeats the token"
        );
    }
    let valid = get_account(&client, &account, &format!("bearer {valid}")).await;
    assert_eq!(valid.status, 200);
}

#[tokio::test]
async fn a_customer_uses_their_own_accounts_only() {
    let stack = Stack::shared().await;
    let (alice, bob) = (Client::customer(stack, "alice"), Client::customer(stack, "bob"));
    let teller = Client::teller(stack);
    let account = alice.open_account("KRW").await;
    assert_eq!(teller.deposit(&account, "100").await.status, 200);
    let record = alice.withdraw(&account, "40").await;
    assert_eq!(record.status, 200);
    let id = record.text("recordId");
    // As if it did not exist: with the same words as for an id that no one has.
    let unknown = AccountId::new().to_string();
    for (hidden, missing) in [
        (bob.account(&account).await, bob.account(&unknown).await),
        (bob.withdraw(&account, "1").await, bob.withdraw(&unknown, "1").await),
        (
            bob.get(&format!("/v1/accounts/{account}/records")).await,
            bob.get(&format!("/v1/accounts/{unknown}/records")).await,
        ),
        (bob.record(id).await, bob.record(&unknown).await),
    ] {
        assert_eq!(hidden.status, 404, "{hidden:?}");
        let words = |response: &Response, id: &str| {
            let mut body = response.body.clone();
            body.as_object_mut().unwrap().remove("traceId");
            body.to_string().replace(id, "ID")
        };
        let id = if hidden.problem() == "record-not-found" { id } else { &account };
        assert_eq!(words(&hidden, id), words(&missing, &unknown));
    }
    assert_eq!(teller.account(&account).await.text("balance"), "60");
}

#[tokio::test]
async fn a_callers_rate_is_limited_alone() {
    let settings = ["PASSBOOK_CUSTOMER_RATE_LIMIT=2".to_owned()];
    let dir = initialized_folder("rate-limit").await;
    let arguments = ["--port", "0", "--account-replicas", "1"];
    let stack = Stack::start_under(&dir, &settings, &arguments).await;
    let (ann, bob) = (Client::customer(&stack, "ann"), Client::customer(&stack, "bob"));
    let account = ann.open_account("KRW").await;
    let mut limited = None;
    for _ in 0..30 {
        let response = ann.account(&account).await;
        if response.status == 429 {
            limited = Some(response);
            break;
        }
        assert_eq!(response.header("ratelimit-policy"), Some("\"customer\";q=20;w=10"));
        assert!(response.header("ratelimit").unwrap().starts_with("\"customer\";r="));
    }
    let limited = limited.expect("no request was limited");
    assert_eq!(limited.problem(), "too-many-requests");
    assert_eq!(limited.header("retry-after"), Some("1"));
    assert!(limited.header("ratelimit").unwrap().contains(";r=0;t=10"));
    // Others are not. An API key is a caller, too.
    bob.open_account("KRW").await;
    let teller = Client::teller(&stack);
    let key = json!({ "name": "a test", "scopes": ["accounts:read"] });
    let key = Client::admin(&stack).post("/v1/api-keys", &[], &key).await;
    let machine = Client::new(&stack.file().api, key.text("secret"));
    let of_key = machine.get("/v1/accounts").await;
    assert_eq!((of_key.status, of_key.header("ratelimit")), (200, Some("\"customer\";r=19;t=1")));
    for _ in 0..40 {
        let response = teller.account(&account).await;
        assert_eq!((response.status, response.header("ratelimit")), (200, None));
    }
    eventually("ann is served again", std::time::Duration::from_secs(10), async || {
        (ann.account(&account).await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn every_response_has_its_id_and_stays_in_no_cache() {
    let stack = Stack::shared().await;
    let client = Client::teller(stack);
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let parent = format!("00-{trace}-b7ad6b7169203331-01");
    for (path, status) in
        [("/v1/reports", 200), ("/v1/accounts/x", 400), ("/v1/none", 404), ("/v1/batches", 405)]
    {
        let headers = [("traceparent", parent.as_str())];
        let response = client.send(Method::GET, path, &headers, None).await.unwrap();
        assert_eq!(response.status, status, "{path}");
        for (name, value) in [
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            ("request-id", trace),
        ] {
            assert_eq!(response.header(name), Some(value), "{path}");
        }
    }
}

#[tokio::test]
async fn a_refused_request_is_logged_with_its_caller() {
    let stack = Stack::shared().await;
    let name = new_key();
    let refused = Client::user(stack, &name, Scopes::default()).get("/v1/reports").await;
    assert_eq!(refused.status, 403);
    let log = stack.dir.join("logs/report-service-0.log");
    let line = std::fs::read_to_string(log).unwrap();
    let line = line.lines().find(|line| line.contains(&name)).expect("no line names the caller");
    assert!(line.contains("a request was refused") && line.contains("reports:read"), "{line}");
    assert!(line.contains(refused.header("request-id").unwrap()), "{line}");
}
