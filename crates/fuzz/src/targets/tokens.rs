//! Bearer tokens, and the keys that verify them.

use std::{
    cell::RefCell,
    fs,
    sync::OnceLock,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures::FutureExt;
use runtime::http::bearer::{Caller, TokenVerifier};
use serde_json::Value;
use tempfile::NamedTempFile;

use super::{assert_refusal, choice, is_visible, signing_key as key};

/// A file of this process, written again and again.
struct Scratch(NamedTempFile);

impl Scratch {
    fn new() -> Self {
        Self(NamedTempFile::new().unwrap())
    }

    fn verifier(&self, document: &[u8]) -> Option<TokenVerifier> {
        fs::write(self.0.path(), document).unwrap();
        TokenVerifier::in_file(self.0.path().to_owned(), "passbook", "passbook").ok()
    }
}

fn caller(verifier: &TokenVerifier, token: &[u8]) -> Option<Caller> {
    let mut headers = HeaderMap::new();
    let value = HeaderValue::from_bytes(&[b"Bearer ", token].concat()).ok()?;
    headers.insert(AUTHORIZATION, value);
    // The keys of a file are there at once.
    match verifier.caller_of(&headers).now_or_never().unwrap() {
        Ok(caller) => Some(caller),
        Err(problem) => {
            assert_refusal(&problem, token);
            None
        }
    }
}

/// A first byte below `@` makes the rest a header and claims, which are signed; otherwise the rest is a
/// token. No token is accepted that the key did not sign, or whose claims are wrong.
pub(super) fn tokens(input: &[u8]) {
    static VERIFIER: OnceLock<TokenVerifier> = OnceLock::new();
    let verifier =
        VERIFIER.get_or_init(|| Scratch::new().verifier(key().jwks().as_bytes()).unwrap());
    let Some((choice, rest)) = choice(input) else { return };
    if choice >= usize::from(b'@') {
        if caller(verifier, rest).is_some() {
            assert_signed(rest);
        }
        return;
    }
    let at = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    let (header, claims) = (&rest[..at], rest.get(at + 1..).unwrap_or_default());
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = URL_SAFE_NO_PAD.encode(key().sign(signed.as_bytes()));
    let token = format!("{signed}.{signature}");
    let Some(accepted) = caller(verifier, token.as_bytes()) else { return };
    assert_signed(token.as_bytes());
    assert!(is_visible(accepted.user_id.as_str()) && accepted.api_key.is_none());
}

fn assert_signed(token: &[u8]) {
    let token = str::from_utf8(token).unwrap().trim();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    assert_eq!(signature, key().sign(signed.as_bytes()));
    let (header, claims) = signed.split_once('.').unwrap();
    let [header, claims] = [header, claims].map(|part| {
        serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    });
    assert_eq!(header["alg"], "EdDSA", "{header}");
    assert!(header.get("crit").is_none(), "{header}");
    assert!(header["kid"].is_null() || header["kid"] == key().key_id(), "{header}");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let expires = claims["exp"].as_f64().unwrap();
    assert!(expires >= now - 31.0 && expires <= 253_402_300_799.0, "{claims}");
    let names = |claim: &Value| match claim {
        Value::Array(names) => names.contains(&"passbook".into()),
        name => name == "passbook",
    };
    assert!(names(&claims["aud"]) && names(&claims["iss"]), "{claims}");
    assert!(claims["nbf"].as_f64().is_none_or(|from| from <= now + 31.0), "{claims}");
    let subject = claims["sub"].as_str().unwrap();
    let is_key = subject
        .strip_prefix("key_")
        .is_some_and(|id| id.len() == 36 && uuid::Uuid::try_parse(id).is_ok());
    assert!(is_visible(subject) && !is_key, "{claims}");
}

/// No set with a private key is accepted, and none without a key for signatures. A set without the
/// signing key's public half accepts no token of it.
pub(super) fn key_sets(input: &[u8]) {
    thread_local! {
        static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::new());
    }
    let Some(verifier) = SCRATCH.with_borrow(|scratch| scratch.verifier(input)) else { return };
    let document: Value = serde_json::from_slice(input).unwrap();
    let keys = document["keys"].as_array().unwrap();
    assert!((1..=64).contains(&keys.len()));
    assert!(keys.iter().all(|key| key.get("d").is_none()), "{document}");
    let header = serde_json::json!({ "alg": "EdDSA" });
    let claims = serde_json::json!({
        "sub": "ann", "iss": "passbook", "aud": "passbook", "exp": 253_402_300_000_u64,
    });
    let token = key().signed_token(&header, &claims);
    if caller(&verifier, token.as_bytes()).is_some() {
        let own: Value = serde_json::from_str(&key().jwks()).unwrap();
        let point = &own["keys"][0]["x"];
        assert!(keys.iter().any(|key| key["x"] == *point), "{document}");
    }
}
