//! Signs the digests of files, so that anyone with the public key can check a file
//! without asking this service.

use std::fmt;

use anyhow::{Context, Result};
use base64::{Engine, prelude::BASE64_STANDARD};
use contract::file_signature::signed_text;
use ring::signature::{Ed25519KeyPair, KeyPair};

/// DER prefix of a 32-byte Ed25519 public key (RFC 8410, section 4).
const SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// An Ed25519 key pair. `Debug` does not show the key.
pub struct Signer(Ed25519KeyPair);

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer(secret)")
    }
}

impl Signer {
    /// Reads a private key: PKCS#8, as PEM or as its bare base64.
    ///
    /// # Errors
    /// If it is none. The error does not show the key.
    pub fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().filter(|line| !line.starts_with("-----"));
        let base64: String = lines.flat_map(str::split_whitespace).collect();
        let pkcs8 = BASE64_STANDARD.decode(base64).ok();
        let pair = pkcs8.and_then(|der| Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).ok());
        pair.map(Self).context(
            "PASSBOOK_REPORT_SIGNING_KEY must be an Ed25519 private key in PEM (PKCS#8), as \
             `openssl genpkey -algorithm ed25519` makes it",
        )
    }

    /// The signature of a file's digest.
    #[must_use]
    pub fn sign(&self, sha256: &[u8; 32], size: u64) -> Vec<u8> {
        self.0.sign(signed_text(&hex(sha256), size).as_bytes()).as_ref().to_vec()
    }

    /// The public key: PEM of its SubjectPublicKeyInfo.
    #[must_use]
    pub fn public_key_pem(&self) -> String {
        let der = [&SPKI_PREFIX[..], self.0.public_key().as_ref()].concat();
        let line = BASE64_STANDARD.encode(der);
        format!("-----BEGIN PUBLIC KEY-----\n{line}\n-----END PUBLIC KEY-----\n")
    }
}

/// Lowercase hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `openssl genpkey -algorithm ed25519`.
    const KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEIEQN2qYHYNbm0Uv2sNTd6wCQo3jwbZk8qJkMzv0Gk5tN\n\
        -----END PRIVATE KEY-----\n";

    #[test]
    fn the_same_file_has_the_same_signature() {
        let signer = Signer::parse(KEY).unwrap();
        assert_eq!(signer.sign(&[7; 32], 5), signer.sign(&[7; 32], 5));
        assert_ne!(signer.sign(&[7; 32], 5), signer.sign(&[7; 32], 6));
        assert!(signer.public_key_pem().starts_with("-----BEGIN PUBLIC KEY-----\nMCowBQYDK2Vw"));
    }

    #[test]
    fn a_key_of_another_form_is_an_error_without_the_key() {
        for text in
            ["", "secret", "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----"]
        {
            let error = Signer::parse(text).unwrap_err().to_string();
            assert!(!error.contains("c2Vjc"), "{error}");
        }
    }
}
