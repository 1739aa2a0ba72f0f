use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use ring::{
    rand::SystemRandom,
    rsa,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
        RsaKeyPair,
    },
};
use serde_json::{Value, json};

use super::*;

/// Signs the tokens of these tests only.
const RSA_KEY: &str = include_str!("rsa_test_key.txt");

/// Signs a text.
type Sign = Box<dyn Fn(&[u8]) -> Vec<u8>>;

/// An algorithm, a key with the id `1`, and its signer.
type Signer = (&'static str, Value, Sign);

fn ed25519() -> Signer {
    let pair = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(pair.as_ref()).unwrap();
    let x = URL_SAFE_NO_PAD.encode(pair.public_key());
    let key = json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": "1" });
    ("EdDSA", key, Box::new(move |text| pair.sign(text).as_ref().to_vec()))
}

fn p256() -> Signer {
    let (algorithm, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
    let pair = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, pair.as_ref(), &random).unwrap();
    let point = pair.public_key().as_ref();
    let [x, y] = [&point[1..33], &point[33..]].map(|part| URL_SAFE_NO_PAD.encode(part));
    let key = json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": "1" });
    ("ES256", key, Box::new(move |text| pair.sign(&random, text).unwrap().as_ref().to_vec()))
}

fn rsa() -> Signer {
    let der = STANDARD.decode(RSA_KEY.replace('\n', "")).unwrap();
    let pair = RsaKeyPair::from_pkcs8(&der).unwrap();
    let public = rsa::PublicKeyComponents::<Vec<u8>>::from(pair.public());
    let [n, e] = [public.n, public.e].map(|number| URL_SAFE_NO_PAD.encode(number));
    let key = json!({ "kty": "RSA", "n": n, "e": e, "kid": "1" });
    let sign = move |text: &[u8]| {
        let mut signature = vec![0; pair.public().modulus_len()];
        pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text, &mut signature).unwrap();
        signature
    };
    ("RS256", key, Box::new(sign))
}

fn verifier(keys: &[&Value]) -> TokenVerifier {
    let document = json!({ "keys": keys }).to_string();
    TokenVerifier::new(Keys::fixed(document.as_bytes()).unwrap(), "i", "a")
}

fn token(sign: &Sign, header: &Value, claims: &Value) -> String {
    let text = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
    let signature = URL_SAFE_NO_PAD.encode(sign(text.as_bytes()));
    format!("{text}.{signature}")
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn claims(expires: SystemTime) -> Value {
    let expires = seconds(expires);
    json!({ "sub": "ann", "scope": "accounts:read", "iss": "i", "aud": "a", "exp": expires })
}

fn soon() -> SystemTime {
    SystemTime::now() + LEEWAY
}

async fn accepted(verifier: &TokenVerifier, token: &str) -> Caller {
    verifier.caller(Some(token), || Ok(())).await.unwrap()
}

async fn refusal(verifier: &TokenVerifier, token: &str) -> String {
    let problem = verifier.caller(Some(token), || Ok(())).await.expect_err(token);
    assert_eq!(problem.status(), 401);
    serde_json::to_string(&problem).unwrap()
}

#[tokio::test]
async fn a_key_verifies_its_own_algorithm_only() {
    let signers = [ed25519(), p256(), rsa()];
    for (algorithm, key, sign) in &signers {
        let verifier = verifier(&[key]);
        let valid = token(sign, &json!({ "alg": algorithm, "kid": "1" }), &claims(soon()));
        assert_eq!(accepted(&verifier, &valid).await.user_id.as_str(), "ann");
        let without_id = token(sign, &json!({ "alg": algorithm }), &claims(soon()));
        accepted(&verifier, &without_id).await;
        for other in ["RS256", "ES256", "EdDSA", "RS512", "PS256", "HS256", "none"] {
            if other != *algorithm {
                let header = json!({ "alg": other, "kid": "1" });
                let refused = refusal(&verifier, &token(sign, &header, &claims(soon()))).await;
                assert!(!refused.contains("signature is invalid"), "{algorithm} {other} {refused}");
            }
        }
        for (other, _, other_sign) in signers.iter().filter(|(other, ..)| other != algorithm) {
            let header = json!({ "alg": algorithm, "kid": "1" });
            let forged = token(other_sign, &header, &claims(soon()));
            let refused = refusal(&verifier, &forged).await;
            assert!(refused.contains("signature is invalid"), "{algorithm} {other} {refused}");
        }
    }
}

#[tokio::test]
async fn the_public_key_is_not_the_secret_of_an_hmac() {
    for (_, key, _) in [ed25519(), p256(), rsa()] {
        let verifier = verifier(&[&key]);
        let part = key["n"].as_str().or(key["x"].as_str()).unwrap();
        for secret in [URL_SAFE_NO_PAD.decode(part).unwrap(), part.into(), key.to_string().into()] {
            let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &secret);
            let sign: Sign =
                Box::new(move |text| ring::hmac::sign(&secret, text).as_ref().to_vec());
            for header in [json!({ "alg": "HS256", "kid": "1" }), json!({ "alg": "HS256" })] {
                let refused = refusal(&verifier, &token(&sign, &header, &claims(soon()))).await;
                assert!(refused.contains("must be signed with"), "{refused}");
            }
        }
    }
}

#[tokio::test]
async fn a_cached_token_still_expires() {
    let (algorithm, key, sign) = ed25519();
    let verifier = verifier(&[&key]);
    let header = json!({ "alg": algorithm, "kid": "1" });
    let token = token(&sign, &header, &claims(SystemTime::now()));
    accepted(&verifier, &token).await;
    let keys = verifier.keys().unwrap();
    assert!(keys.cached(&token, SystemTime::now()).is_some());
    let expired = SystemTime::now() + LEEWAY + Duration::from_secs(1);
    assert!(keys.cached(&token, expired).is_none());
}

#[tokio::test]
async fn a_token_is_rejected_with_the_reason() {
    let (algorithm, key, sign) = ed25519();
    let verifier = verifier(&[&key]);
    let header = |name: &str, value: Value| {
        let mut header = json!({ "alg": algorithm, "kid": "1" });
        header[name] = value;
        token(&sign, &header, &claims(soon()))
    };
    let claim = |name: &str, value: Value| {
        let mut claims = claims(soon());
        claims[name] = value;
        token(&sign, &json!({ "alg": algorithm, "kid": "1" }), &claims)
    };
    let past = seconds(SystemTime::now()) - LEEWAY.as_secs() - 1;
    let future = seconds(SystemTime::now()) + LEEWAY.as_secs() + 5;
    for (token, reason) in [
        (header("crit", json!(["b64"])), "crit"),
        (header("crit", json!([])), "crit"),
        (header("crit", Value::Null), "crit"),
        (header("crit", json!("b64")), "must be a JWT"),
        (header("kid", json!("2")), "kid) is unknown"),
        (header("kid", json!(1)), "must be a JWT"),
        (claim("sub", json!("ann lee")), "sub must be 1 to 255 visible ASCII"),
        (claim("sub", json!("\u{c548}")), "sub must be 1 to 255 visible ASCII"),
        (claim("sub", json!("")), "sub must be 1 to 255 visible ASCII"),
        (claim("sub", Value::Null), "must be a JWT"),
        (claim("iss", json!("j")), "wrong issuer or audience"),
        (claim("iss", Value::Null), "must be a JWT"),
        (claim("aud", json!(["b"])), "wrong issuer or audience"),
        (claim("aud", Value::Null), "must be a JWT"),
        (claim("exp", json!(past)), "expired"),
        (claim("exp", json!(253_402_300_800_u64)), "after the year 9999"),
        (claim("exp", json!(1e19)), "after the year 9999"),
        (claim("exp", json!(1e300)), "must be a JWT"),
        (claim("exp", json!(-1)), "must be a JWT"),
        (claim("exp", json!("9999999999")), "must be a JWT"),
        (claim("exp", Value::Null), "must be a JWT"),
        (claim("nbf", json!(future)), "not valid yet"),
    ] {
        let refused = refusal(&verifier, &token).await;
        assert!(refused.contains(reason), "{reason}: {refused}");
    }
    accepted(&verifier, &claim("nbf", json!(future - 10))).await;
    accepted(&verifier, &claim("aud", json!(["b", "a"]))).await;
    accepted(&verifier, &claim("exp", json!(253_402_300_799_u64))).await;
}

#[tokio::test]
async fn only_a_verified_token_is_cached() {
    let (algorithm, key, sign) = ed25519();
    let verifier = verifier(&[&key]);
    let token = token(&sign, &json!({ "alg": algorithm, "kid": "1" }), &claims(soon()));
    accepted(&verifier, &token).await;
    let (signed, _) = token.rsplit_once('.').unwrap();
    let forged = format!("{signed}.{}", URL_SAFE_NO_PAD.encode([7; 64]));
    refusal(&verifier, &forged).await;
    assert!(verifier.keys().unwrap().cached(&forged, SystemTime::now()).is_none());
}

/// A request from this address, on behalf of another one.
fn request(token: Option<&str>, peer: &str, forwarded_for: &str) -> Parts {
    let mut request = axum::http::Request::builder().header("x-forwarded-for", forwarded_for);
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    let (mut parts, ()) = request.body(()).unwrap().into_parts();
    parts.extensions.insert(Peer(peer.parse().unwrap()));
    parts
}

#[tokio::test(start_paused = true)]
async fn after_many_invalid_tokens_an_address_is_served_with_known_tokens_only() {
    let (algorithm, key, sign) = ed25519();
    let config = AddressConfig {
        trusted_proxies: TrustedProxies::parse("10.0.0.0/8").unwrap(),
        failed_token_limit: 10,
        address_connections: 100,
    };
    let verifier = verifier(&[&key]).with_limit(&config);
    let valid = |subject: &str| {
        let mut claims = claims(soon());
        claims["sub"] = subject.into();
        token(&sign, &json!({ "alg": algorithm, "kid": "1" }), &claims)
    };
    let (known, new) = (valid("ann"), valid("bob"));
    let status = async |token: Option<&str>, peer: &str, forwarded_for: &str| {
        let request = request(token, peer, forwarded_for);
        let caller = verifier.authenticate(&request).await;
        caller.map_or_else(|problem| problem.status().as_u16(), |_| 200)
    };
    assert_eq!(status(Some(&known), "192.0.2.1", "").await, 200);
    let forged = format!("{}.{}", known.rsplit_once('.').unwrap().0, "A".repeat(86));
    let mut statuses = Vec::new();
    for number in 0..100 {
        // A client that is no proxy invents an address for each request.
        let invented = format!("198.51.100.{number}");
        let token = [Some(&*forged), None, Some("pbk_x")][number % 3];
        statuses.push(status(token, "192.0.2.1", &invented).await);
    }
    assert_eq!(statuses, [[401; 50], [429; 50]].concat());
    // The signature is not looked at.
    assert_eq!(status(Some(&new), "192.0.2.1", "").await, 429);
    assert_eq!(status(Some(&known), "192.0.2.1", "").await, 200);
    assert_eq!(status(Some(&new), "10.0.0.1", "192.0.2.2, 192.0.2.1").await, 429);
    assert_eq!(status(Some(&new), "10.0.0.1", "192.0.2.1, 192.0.2.2").await, 200);
    // Valid tokens count nothing.
    tokio::time::advance(Duration::from_millis(100)).await;
    for number in 0..100 {
        assert_eq!(status(Some(&valid(&number.to_string())), "192.0.2.1", "").await, 200);
    }
    assert_eq!(status(None, "192.0.2.1", "").await, 401);
    assert_eq!(status(None, "192.0.2.1", "").await, 429);
}
