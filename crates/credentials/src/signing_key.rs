//! The key that signs bearer tokens: JWTs as an identity provider issues them,
//! signed with Ed25519. A key of the same kind signs exported heads of the ledger.

use std::fmt;

use anyhow::{Context, Result};
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use contract::Scopes;
use ring::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

/// DER prefix of a 32-byte Ed25519 public key (RFC 8410, section 4).
const SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The length of a line of PEM (RFC 7468).
const PEM_LINE: usize = 64;

/// An Ed25519 key pair. `Debug` does not show the key.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    pkcs8: Vec<u8>,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(secret)")
    }
}

impl SigningKey {
    /// Generates a key pair.
    ///
    /// # Errors
    /// If the system provides no random numbers.
    pub fn generate() -> Result<Self> {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).ok();
        Self::from_pkcs8(pkcs8.context("generating a signing key")?.as_ref().to_vec())
    }

    /// Reads a key pair as [`SigningKey::to_base64`] wrote it.
    ///
    /// # Errors
    /// If the text is not base64, or not PKCS#8 of an Ed25519 key.
    pub fn from_base64(text: &str) -> Result<Self> {
        Self::from_pkcs8(BASE64_STANDARD.decode(text).context("the signing key is not base64")?)
    }

    /// Reads a private key from the PEM of its PKCS#8, as `openssl genpkey -algorithm ed25519`
    /// makes it.
    ///
    /// # Errors
    /// If it is none. The error does not show the key.
    pub fn from_pem(pem: &str) -> Result<Self> {
        let lines = pem.lines().map(str::trim).filter(|line| !line.starts_with("-----"));
        let pkcs8 = BASE64_STANDARD.decode(lines.collect::<String>()).ok();
        // OpenSSL leaves out the public key.
        let key = pkcs8.and_then(|pkcs8| {
            let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pkcs8).ok()?;
            Some(Self { pair, pkcs8 })
        });
        key.context("not an Ed25519 private key in PEM (PKCS#8, -----BEGIN PRIVATE KEY-----)")
    }

    /// The signature of a text: 64 bytes.
    #[must_use]
    pub fn sign(&self, text: &[u8]) -> Vec<u8> {
        self.pair.sign(text).as_ref().to_vec()
    }

    fn from_pkcs8(pkcs8: Vec<u8>) -> Result<Self> {
        let pair = Ed25519KeyPair::from_pkcs8(&pkcs8).ok();
        let pair = pair.context("the signing key is not PKCS#8 of an Ed25519 key")?;
        Ok(Self { pair, pkcs8 })
    }

    /// The private key: PKCS#8 in base64.
    #[must_use]
    pub fn to_base64(&self) -> String {
        BASE64_STANDARD.encode(&self.pkcs8)
    }

    /// The private key: PEM of its PKCS#8. The report-service signs files with it
    /// (`PASSBOOK_REPORT_SIGNING_KEY`).
    #[must_use]
    pub fn private_key_pem(&self) -> String {
        pem("PRIVATE KEY", &self.pkcs8)
    }

    /// The public key: PEM of its SubjectPublicKeyInfo.
    #[must_use]
    pub fn public_key_pem(&self) -> String {
        let der = [&SPKI_PREFIX[..], self.pair.public_key().as_ref()].concat();
        pem("PUBLIC KEY", &der)
    }

    /// The public key as a JSON Web Key Set (RFC 7517, RFC 8037). The services verify tokens
    /// with it (`PASSBOOK_JWKS_FILE`).
    #[must_use]
    pub fn jwks(&self) -> String {
        let key = json!({
            "kty": "OKP",
            "crv": "Ed25519",
            "x": self.x(),
            "alg": "EdDSA",
            "use": "sig",
            "kid": self.key_id(),
        });
        json!({ "keys": [key] }).to_string()
    }

    /// The name of the key in its set and in the headers of tokens: its thumbprint (RFC 7638).
    #[must_use]
    pub fn key_id(&self) -> String {
        let members = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, self.x());
        BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, members.as_bytes()))
    }

    /// The public key, as in a JSON Web Key.
    fn x(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(self.pair.public_key().as_ref())
    }

    /// A token for `subject` with these scopes, valid for `ttl` from now. A negative
    /// `ttl` gives an expired token.
    #[must_use]
    pub fn token(&self, subject: &str, scopes: Scopes, ttl: Duration) -> String {
        let now = OffsetDateTime::now_utc();
        let claims = json!({
            "sub": subject,
            "scope": scopes.to_string(),
            "iss": "passbook",
            "aud": "passbook",
            "iat": now.unix_timestamp(),
            "exp": (now + ttl).unix_timestamp(),
        });
        self.signed_token(&json!({ "alg": "EdDSA", "typ": "JWT", "kid": self.key_id() }), &claims)
    }

    /// A token with any header and claims.
    #[must_use]
    pub fn signed_token(&self, header: &Value, claims: &Value) -> String {
        let signed = format!(
            "{}.{}",
            BASE64_URL_SAFE_NO_PAD.encode(header.to_string()),
            BASE64_URL_SAFE_NO_PAD.encode(claims.to_string()),
        );
        let signature = self.pair.sign(signed.as_bytes());
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    for (index, character) in BASE64_STANDARD.encode(der).chars().enumerate() {
        if index > 0 && index % PEM_LINE == 0 {
            text.push('\n');
        }
        text.push(character);
    }
    text.push_str(&format!("\n-----END {label}-----\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of RFC 8037, appendix A.
    #[test]
    fn the_key_id_is_the_thumbprint_of_rfc_8037() {
        let mut pkcs8 = vec![0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65];
        pkcs8.extend([0x70, 0x04, 0x22, 0x04, 0x20]);
        let d = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
        pkcs8.extend(BASE64_URL_SAFE_NO_PAD.decode(d).unwrap());
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pkcs8).unwrap();
        let key = SigningKey { pair, pkcs8 };
        assert_eq!(key.key_id(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        assert!(key.jwks().contains("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"));
    }
}
