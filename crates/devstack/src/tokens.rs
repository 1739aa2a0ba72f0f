//! Bearer tokens, as an identity provider would hand them out: JWTs signed
//! with the stack's own Ed25519 key.

use anyhow::Result;
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::json;
use time::{Duration, OffsetDateTime};

use crate::Secrets;

/// What stands before the 32 bytes of an Ed25519 public key in its DER form
/// (RFC 8410, section 4).
const SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A token for `subject` in `role`, good for `ttl` from now. A negative `ttl`
/// gives one that has expired.
///
/// # Errors
/// When the signing key can't be used.
pub fn mint(secrets: &Secrets, subject: &str, role: &str, ttl: Duration) -> Result<String> {
    Ok(sign(&secrets.signing_key()?, subject, role, ttl))
}

/// A token as that of [`mint`], signed with this key.
#[must_use]
pub fn sign(key: &Ed25519KeyPair, subject: &str, role: &str, ttl: Duration) -> String {
    let now = OffsetDateTime::now_utc();
    let header = json!({ "alg": "EdDSA", "typ": "JWT" });
    let claims = json!({
        "sub": subject,
        "role": role,
        "iss": "passbook",
        "aud": "passbook",
        "iat": now.unix_timestamp(),
        "exp": (now + ttl).unix_timestamp(),
    });
    let signed = format!(
        "{}.{}",
        BASE64_URL_SAFE_NO_PAD.encode(header.to_string()),
        BASE64_URL_SAFE_NO_PAD.encode(claims.to_string()),
    );
    let signature = key.sign(signed.as_bytes());
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

/// The key that verifies what this one signs, as PEM of its SubjectPublicKeyInfo.
#[must_use]
pub fn public_key_pem(key: &Ed25519KeyPair) -> String {
    let der = [&SPKI_PREFIX[..], key.public_key().as_ref()].concat();
    // 44 bytes are 60 characters: one line of PEM.
    let line = BASE64_STANDARD.encode(der);
    format!("-----BEGIN PUBLIC KEY-----\n{line}\n-----END PUBLIC KEY-----\n")
}
