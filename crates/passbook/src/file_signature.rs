//! Checks the signature of a file, offline: a report's, or that of exported heads.

use std::{fmt::Write as _, io::Read, path::Path};

use anyhow::{Context, Result, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use contract::file_signature::{ALGORITHM, FileSignature, signed_text};
use ring::{
    digest::{self, SHA256},
    signature::{ED25519, UnparsedPublicKey},
};

/// DER prefix of a 32-byte Ed25519 public key (RFC 8410, section 4).
const SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// Limit for a file with a signature or a key.
const MAX_FILE: u64 = 64 << 10;

/// The digest and the length of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileDigest {
    /// SHA-256, in lowercase hexadecimal digits.
    pub sha256: String,
    pub size: u64,
}

/// Computes the digest of bytes that arrive in pieces.
pub struct Digester {
    context: digest::Context,
    size: u64,
}

impl Default for Digester {
    fn default() -> Self {
        Self { context: digest::Context::new(&SHA256), size: 0 }
    }
}

impl Digester {
    /// A digest of no bytes yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next piece.
    pub fn add(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
        self.size = self.size.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    }

    /// The digest and the length of all pieces.
    #[must_use]
    pub fn finish(self) -> FileDigest {
        let mut sha256 = String::new();
        for byte in self.context.finish().as_ref() {
            let _ = write!(sha256, "{byte:02x}");
        }
        FileDigest { sha256, size: self.size }
    }
}

/// The digest of a file.
///
/// # Errors
/// When the file can't be read.
pub fn digest_file(path: &Path) -> Result<FileDigest> {
    let read = || digest(&mut std::fs::File::open(path)?);
    read().with_context(|| path.display().to_string())
}

/// The digest of the rest of an open file.
///
/// # Errors
/// When the file can't be read.
pub fn digest(file: &mut std::fs::File) -> std::io::Result<FileDigest> {
    let mut digester = Digester::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(digester.finish());
        }
        digester.add(buffer.get(..count).unwrap_or_default());
    }
}

/// Reads a small text file.
///
/// # Errors
/// When it can't be read, or is too long.
pub fn read_text(path: &Path) -> Result<String> {
    let read = || -> Result<String> {
        let mut text = String::new();
        std::fs::File::open(path)?.take(MAX_FILE + 1).read_to_string(&mut text)?;
        ensure!(u64::try_from(text.len())? <= MAX_FILE, "the file is too long");
        Ok(text)
    };
    read().with_context(|| path.display().to_string())
}

/// An Ed25519 public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Reads the PEM of a SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// When it is none of an Ed25519 key.
    pub fn from_pem(pem: &str) -> Result<Self> {
        let lines = pem.lines().map(str::trim);
        let base64: String = lines.filter(|line| !line.starts_with("-----")).collect();
        let der = BASE64_STANDARD.decode(base64).ok();
        let key = der.as_ref().and_then(|der| der.strip_prefix(&SPKI_PREFIX));
        let key = key.and_then(|key| key.try_into().ok());
        key.map(Self).context("not an Ed25519 public key in PEM (-----BEGIN PUBLIC KEY-----)")
    }
}

/// What is wrong with a file, its signature or its key. `None` if the signature of this key is one
/// of this file.
#[must_use]
pub fn check(file: &FileDigest, signature: &FileSignature, key: &PublicKey) -> Option<String> {
    if signature.algorithm != ALGORITHM {
        return Some(format!("the algorithm {:?} is unknown", signature.algorithm));
    }
    if signature.size != file.size {
        return Some(format!(
            "the file has {} bytes, the signed one {}",
            file.size, signature.size
        ));
    }
    if !signature.sha256.eq_ignore_ascii_case(&file.sha256) {
        return Some("the file was changed: its SHA-256 is not the signed one".to_owned());
    }
    let text = signed_text(&file.sha256, file.size);
    let bytes = BASE64_STANDARD.decode(&signature.signature).unwrap_or_default();
    let verified = UnparsedPublicKey::new(&ED25519, key.0).verify(text.as_bytes(), &bytes);
    verified.is_err().then(|| {
        if PublicKey::from_pem(&signature.public_key).ok().as_ref() == Some(key) {
            "the signature is not valid".to_owned()
        } else {
            "the signature was made with another key".to_owned()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A signature made by OpenSSL: `openssl pkeyutl -sign -rawin`.
    const KEY: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAFOyIUjVMQwjWEX95pl2oII+n/tcLBpMa4DfBaSE+wJ0=\n-----END PUBLIC KEY-----\n";
    const SIGNATURE: &str =
        "6LJpH/B3wK54t+FnR21jdgqLbHe6suhf7I2iENzUsvl0SLwkTU/8odBD+EyNeqyRn6hryI4oNJzR2of+K0cQBA==";

    fn signed() -> (FileDigest, FileSignature, PublicKey) {
        let mut digester = Digester::new();
        digester.add(b"a statement");
        let file = digester.finish();
        let signature = FileSignature {
            algorithm: ALGORITHM.to_owned(),
            sha256: file.sha256.clone(),
            size: file.size,
            signature: SIGNATURE.to_owned(),
            public_key: KEY.to_owned(),
        };
        (file, signature, PublicKey::from_pem(KEY).unwrap())
    }

    #[test]
    fn a_signature_made_by_openssl_is_valid() {
        let (file, signature, key) = signed();
        assert_eq!(check(&file, &signature, &key), None);
    }

    #[test]
    fn another_file_size_digest_signature_or_key_is_found() {
        let (file, signature, key) = signed();
        let mut longer = file.clone();
        longer.size += 1;
        let mut changed = file.clone();
        changed.sha256 = "0".repeat(64);
        let forged = FileSignature { sha256: changed.sha256.clone(), ..signature.clone() };
        let unsigned = FileSignature { signature: String::new(), ..signature.clone() };
        let unknown = FileSignature { algorithm: "none".to_owned(), ..signature.clone() };
        let other = PublicKey([7; 32]);
        for (file, signature, key, finding) in [
            (&longer, &signature, &key, "bytes"),
            (&changed, &signature, &key, "changed"),
            (&changed, &forged, &key, "not valid"),
            (&file, &unsigned, &key, "not valid"),
            (&file, &unknown, &key, "algorithm"),
            (&file, &signature, &other, "another key"),
        ] {
            let found = check(file, signature, key).unwrap();
            assert!(found.contains(finding), "{found}");
        }
    }

    #[test]
    fn a_key_of_another_form_is_an_error() {
        for text in ["", "abc", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"] {
            assert!(PublicKey::from_pem(text).is_err(), "{text}");
        }
    }
}
