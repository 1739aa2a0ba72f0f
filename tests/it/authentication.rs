//! Who may do what.

use devstack::Secrets;
use reqwest::Method;
use tests::{Answer, Client, Stack};
use time::Duration;

async fn shown(client: &Client, account: &str, authorization: &str) -> Answer {
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
        ("another's signature", format!("Bearer {signed}.{}", "A".repeat(86))),
        ("algorithm none", format!("Bearer {unsigned}")),
        ("no token", "Bearer x".to_owned()),
    ] {
        let answer = shown(&client, &account, &authorization).await;
        assert_eq!((answer.status, answer.problem()), (401, "unauthenticated"), "{name}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{name}");
        assert!(!answer.body.to_string().contains(&valid), "{name}: the token is repeated");
    }
    assert_eq!(shown(&client, &account, &format!("bearer {valid}")).await.status, 200);
}

#[tokio::test]
async fn a_customer_uses_their_own_accounts_only() {
    let stack = Stack::shared().await;
    let secrets = Secrets::read(&stack.dir).unwrap();
    let of = |subject: &str, role: &str| {
        let token = secrets.token(subject, role, Duration::hours(1)).unwrap();
        Client::new(&stack.file().api, &token)
    };
    let (alice, bob) = (of("alice", "customer"), of("bob", "customer"));
    let account = alice.open_account("KRW").await;
    let record = alice.deposit(&account, "100").await;
    assert_eq!(record.status, 200);
    for refused in [
        bob.account(&account).await,
        bob.deposit(&account, "100").await,
        bob.withdraw(&account, "100").await,
        bob.record(record.text("recordId")).await,
        bob.get(&format!("/v1/accounts/{account}/records")).await,
        of("alice", "auditor").account(&account).await,
    ] {
        assert_eq!((refused.status, refused.problem()), (403, "forbidden"), "{refused:?}");
    }
    let teller = Client::teller(stack);
    assert_eq!(teller.account(&account).await.text("balance"), "100");
}
