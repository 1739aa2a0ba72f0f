//! The keys of tokens: their sources, their rotation, and the failure of a source.

mod issuer;

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use axum::http::StatusCode;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use contract::Scopes;
use credentials::SigningKey;
use devstack::Secrets;
use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tests::{Client, Response, Stack, eventually, process::passbook, stack::initialized_folder};
use tokio::process::Command;

use self::issuer::{Answer, Issuer, key_set};

const WITHIN: Duration = Duration::from_secs(20);

fn token(key: &SigningKey) -> String {
    key.token("ann", Scopes::all(), time::Duration::hours(1))
}

async fn get(stack: &Stack, token: &str) -> Response {
    Client::new(&stack.file().api, token).get("/v1/accounts").await
}

async fn status(stack: &Stack, key: &SigningKey) -> u16 {
    get(stack, &token(key)).await.status
}

/// Waits until tokens of this key are answered with this status.
async fn becomes(stack: &Stack, key: &SigningKey, wanted: u16) {
    let what = format!("a token is answered with {wanted}");
    eventually(&what, WITHIN, async || (status(stack, key).await == wanted).then_some(())).await;
}

/// A stack with one account-service, which has the keys of this issuer. Its own tokens are those
/// of the returned key.
async fn start(dir: &Path, issuer: &Issuer, more: &[&str]) -> Stack {
    let mut settings = vec![format!("PASSBOOK_JWKS_URL={}", issuer.url)];
    settings.extend(more.iter().map(|&setting| setting.to_owned()));
    let arguments = ["--port", "0", "--account-replicas", "1", "--transaction-replicas", "0"];
    Stack::start_under(dir, &settings, &arguments).await
}

/// The reason why a condition of the account-service is down, and whether the service is ready.
async fn condition(stack: &Stack, name: &str) -> (bool, Option<String>) {
    let file = stack.file();
    let process = file.processes.iter().find(|process| process.name == "account-service-0");
    let url = format!("{}/readyz", process.unwrap().admin.as_ref().unwrap());
    let report: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
    let conditions = report["conditions"].as_array().unwrap();
    let condition = conditions.iter().find(|condition| condition["name"] == name).unwrap();
    (report["ready"] == true, condition["reason"].as_str().map(str::to_owned))
}

#[tokio::test]
async fn a_new_key_is_fetched_at_once_and_unknown_ones_cause_one_fetch() {
    let dir = initialized_folder("jwks-rotation").await;
    let first = Secrets::read(&dir).unwrap().signing_key().unwrap();
    let [second, third] = [(), ()].map(|()| SigningKey::generate().unwrap());
    let issuer = Issuer::start(Answer::Body(key_set(&[&first]))).await;
    let stack = start(&dir, &issuer, &[]).await;
    assert_eq!((status(&stack, &first).await, issuer.requests()), (200, 1));

    // Tokens that can't be valid with any key.
    let (valid, unnamed) = (token(&first), json!({ "alg": "EdDSA" }));
    let hmac = valid.replacen("eyJ", "eyJhbGciOiJIUzI1NiIsImtpZCI6IngifQ.eyJ", 1);
    let crit = second.signed_token(
        &json!({ "alg": "EdDSA", "kid": second.key_id(), "crit": ["x"] }),
        &json!({}),
    );
    for hopeless in ["x", "a.b.c", &hmac, &crit, &second.signed_token(&unnamed, &json!({}))] {
        assert_eq!(get(&stack, hopeless).await.status, 401, "{hopeless}");
    }
    assert_eq!(issuer.requests(), 1);

    // The issuer rotates its key: twenty requests wait for one fetch.
    issuer.answer(Answer::Body(key_set(&[&second, &first])));
    let statuses = join_all((0..20).map(|_| status(&stack, &second))).await;
    assert_eq!((statuses, issuer.requests()), (vec![200; 20], 2));
    assert_eq!(status(&stack, &first).await, 200);

    // None of these waits for a fetch.
    let begun = Instant::now();
    for _ in 0..20 {
        let refused = get(&stack, &token(&third)).await;
        assert_eq!((refused.status, refused.problem()), (401, "unauthenticated"));
        assert!(refused.text("detail").contains("kid) is unknown"), "{refused:?}");
    }
    assert_eq!(issuer.requests(), 2);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn the_last_good_keys_stay_while_their_source_fails() {
    let dir = initialized_folder("jwks-failures").await;
    let first = Secrets::read(&dir).unwrap().signing_key().unwrap();
    let [second, attacker] = [(), ()].map(|()| SigningKey::generate().unwrap());
    // The service is not ready before it has keys.
    let issuer = Issuer::start(Answer::Status(StatusCode::SERVICE_UNAVAILABLE)).await;
    let keys = key_set(&[&first]);
    let (stack, ()) = tokio::join!(start(&dir, &issuer, &["PASSBOOK_JWKS_REFRESH=1s"]), async {
        let failed = async || (issuer.requests() >= 2).then_some(());
        eventually("two fetches have failed", Duration::from_secs(60), failed).await;
        issuer.answer(Answer::Body(keys.clone()));
    });
    let cached = token(&first);
    assert_eq!(get(&stack, &cached).await.status, 200);
    assert_eq!(condition(&stack, "token-keys-source").await, (true, None));

    let long = format!("{{\"keys\":[],\"padding\":\"{}\"}}", "x".repeat(300_000));
    let private = key_set(&[&attacker]).replace("\"kty\"", "\"d\":\"AA\",\"kty\"");
    for (answer, reason) in [
        (Answer::Status(StatusCode::INTERNAL_SERVER_ERROR), "answered 500"),
        (Answer::Body("<html>not keys</html>".to_owned()), "not a JSON Web Key Set"),
        (Answer::Body("{\"keys\":[]}".to_owned()), "no key"),
        (Answer::Body(long), "limit"),
        (Answer::Body(private), "private key"),
        (Answer::Redirect(key_set(&[&attacker])), "redirect is not followed"),
        (Answer::Silence, "no answer within"),
    ] {
        issuer.answer(answer);
        let down = eventually(reason, WITHIN, async || {
            let (ready, down) = condition(&stack, "token-keys-source").await;
            assert!(ready, "{reason}");
            down.filter(|down| down.contains(reason))
        });
        down.await;
        assert_eq!(status(&stack, &first).await, 200, "{reason}");
        assert_eq!(status(&stack, &attacker).await, 401, "{reason}");
    }
    assert_eq!(issuer.followed(), 0);

    // It works again, without the first key: its tokens end, cached ones too.
    issuer.answer(Answer::Body(key_set(&[&second])));
    becomes(&stack, &second, 200).await;
    becomes(&stack, &first, 401).await;
    assert_eq!(get(&stack, &cached).await.status, 401);
    assert_eq!(condition(&stack, "token-keys-source").await, (true, None));
}

#[tokio::test]
async fn a_file_of_keys_is_read_again_when_it_changes() {
    let dir = initialized_folder("jwks-file").await;
    let arguments = ["--port", "0", "--account-replicas", "1", "--transaction-replicas", "0"];
    let stack = Stack::start_in(&dir, &arguments).await;
    let first = Secrets::read(&dir).unwrap().signing_key().unwrap();
    let second = SigningKey::generate().unwrap();
    assert_eq!((status(&stack, &first).await, status(&stack, &second).await), (200, 401));
    let replace = |contents: &str| {
        fs::write(dir.join("jwks.new"), contents).unwrap();
        fs::rename(dir.join("jwks.new"), dir.join("jwks.json")).unwrap();
    };
    replace(&key_set(&[&first, &second]));
    becomes(&stack, &second, 200).await;
    replace(&key_set(&[&second]));
    becomes(&stack, &first, 401).await;
    // A bad file, then none: the keys stay.
    replace("{}");
    eventually("the file is refused", WITHIN, async || {
        let (ready, down) = condition(&stack, "token-keys-source").await;
        assert!(ready);
        down.filter(|down| down.contains("not a JSON Web Key Set"))
    })
    .await;
    fs::remove_file(dir.join("jwks.json")).unwrap();
    eventually("the file is missing", WITHIN, async || {
        let (ready, down) = condition(&stack, "token-keys-source").await;
        assert!(ready);
        down.filter(|down| down.contains("No such file"))
    })
    .await;
    assert_eq!(status(&stack, &second).await, 200);
}

#[tokio::test]
async fn a_service_without_a_usable_source_of_keys_does_not_start() {
    let folder = initialized_folder("jwks-settings").await;
    let (file, missing) = (folder.join("keys.json"), folder.join("missing.json"));
    fs::write(&file, "{\"keys\":[]}").unwrap();
    let (file, missing) = (file.to_str().unwrap(), missing.to_str().unwrap());
    let (url, https) = ("http://login.example.com/keys", "https://login.example.com/keys");
    for (settings, reason) in [
        (&[][..], "set PASSBOOK_JWKS_URL or PASSBOOK_JWKS_FILE"),
        (&[("URL", https), ("FILE", file)], "both set"),
        (&[("URL", url)], "must be an https URL"),
        (&[("URL", "keys")], "must be like https://"),
        (&[("FILE", file)], "no key for signatures"),
        (&[("FILE", missing)], "missing.json: No such file"),
        (&[("URL", https), ("REFRESH", "0s")], "must be 1s to"),
    ] {
        let mut service = Command::new(passbook().with_file_name("account-service"));
        service
            .env("PASSBOOK_DATABASE_URL", "postgres://user:secret@127.0.0.1:1/none")
            .env("PASSBOOK_NATS_URL", "nats://127.0.0.1:1")
            .env("PASSBOOK_LISTEN", "127.0.0.1:0")
            .env("PASSBOOK_ADMIN_LISTEN", "127.0.0.1:0")
            .kill_on_drop(true);
        for (name, value) in settings {
            service.env(format!("PASSBOOK_JWKS_{name}"), value);
        }
        let output = tokio::time::timeout(WITHIN, service.output()).await;
        let output = output.unwrap_or_else(|_| panic!("it has started in spite of {reason}"));
        let output = output.unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains(reason), "{reason}: {error}");
    }
}

#[tokio::test]
async fn a_token_must_be_of_this_issuer_for_this_audience_and_of_now() {
    let stack = Stack::shared().await;
    let key = Secrets::read(&stack.dir).unwrap().signing_key().unwrap();
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    let header = |name: &str, value: Value| {
        let mut header = json!({ "alg": "EdDSA", "kid": key.key_id() });
        header[name] = value;
        header
    };
    let claims = |name: &str, value: Value| {
        let mut claims = json!({
            "sub": "ann", "scope": "accounts:read", "iss": "passbook", "aud": "passbook",
            "exp": now + 60,
        });
        claims[name] = value;
        claims
    };
    let (usual, ann) = (header("alg", "EdDSA".into()), claims("sub", "ann".into()));
    for (name, token) in [
        ("wrong audience", key.signed_token(&usual, &claims("aud", "other".into()))),
        ("no audience", key.signed_token(&usual, &claims("aud", Value::Null))),
        ("wrong issuer", key.signed_token(&usual, &claims("iss", "https://other".into()))),
        ("expired", key.signed_token(&usual, &claims("exp", (now - 40).into()))),
        ("exp of 1e19", key.signed_token(&usual, &claims("exp", 1e19.into()))),
        ("exp of -1e19", key.signed_token(&usual, &claims("exp", (-1e19).into()))),
        ("no exp", key.signed_token(&usual, &claims("exp", Value::Null))),
        ("not yet", key.signed_token(&usual, &claims("nbf", (now + 90).into()))),
        ("crit", key.signed_token(&header("crit", json!(["b64"])), &ann)),
        ("another kid", key.signed_token(&header("kid", "other".into()), &ann)),
        ("another algorithm", key.signed_token(&header("alg", "RS256".into()), &ann)),
        ("HS256", key.signed_token(&header("alg", "HS256".into()), &ann)),
        ("none", key.signed_token(&header("alg", "none".into()), &ann)),
        ("HS256 with the public key", hs256(&key, &ann)),
    ] {
        for path in ["/v1/accounts", "/v1/reports"] {
            let client = Client::new(&stack.file().api, &token);
            let response = client.send(Method::GET, path, &[], None).await.unwrap();
            assert_eq!((response.status, response.problem()), (401, "unauthenticated"), "{name}");
        }
    }
    assert_eq!(get(stack, &key.signed_token(&usual, &ann)).await.status, 200);
}

/// A token signed with the public key as the secret of an HMAC (RFC 2104).
fn hs256(key: &SigningKey, claims: &Value) -> String {
    let set: Value = serde_json::from_str(&key.jwks()).unwrap();
    let public = BASE64_URL_SAFE_NO_PAD.decode(set["keys"][0]["x"].as_str().unwrap()).unwrap();
    let pad = |with: u8| {
        let mut block = [with; 64];
        block.iter_mut().zip(&public).for_each(|(byte, key)| *byte ^= key);
        block
    };
    let header = json!({ "alg": "HS256", "kid": key.key_id() });
    let text = [&header, claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part.to_string()));
    let text = text.join(".");
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(&text).finalize();
    let mac = Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize();
    format!("{text}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac))
}
