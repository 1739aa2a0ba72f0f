//! Authentication by token, and authorization by role and owner.

use devstack::Secrets;
use reqwest::Method;
use tests::{Client, Response, Stack};
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
    let expired = secrets.token("teller", "teller", Duration::hours(-1)).unwrap();
    let valid = secrets.token("teller", "teller", Duration::hours(1)).unwrap();
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
    let alice = Client::user(stack, "alice", "customer");
    let bob = Client::user(stack, "bob", "customer");
    let account = alice.open_account("KRW").await;
    let record = alice.deposit(&account, "100").await;
    assert_eq!(record.status, 200);
    for rejected in [
        bob.account(&account).await,
        bob.deposit(&account, "100").await,
        bob.withdraw(&account, "100").await,
        bob.record(record.text("recordId")).await,
        bob.get(&format!("/v1/accounts/{account}/records")).await,
        Client::user(stack, "alice", "auditor").account(&account).await,
    ] {
        assert_eq!((rejected.status, rejected.problem()), (403, "forbidden"), "{rejected:?}");
    }
    let teller = Client::teller(stack);
    assert_eq!(teller.account(&account).await.text("balance"), "100");
}
