//! The signature of a report's file. The report-service makes it, and anyone can
//! check it offline.

use serde::{Deserialize, Serialize};

/// The only algorithm.
pub const ALGORITHM: &str = "Ed25519";

/// The JSON form of a signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileSignature {
    /// [`ALGORITHM`].
    pub algorithm: String,
    /// SHA-256 of the file, in lowercase hexadecimal digits.
    pub sha256: String,
    /// The file's length in bytes.
    pub size: u64,
    /// The signature of [`signed_text`], in base64.
    pub signature: String,
    /// The public key: PEM of its SubjectPublicKeyInfo. A reader needs another source
    /// for the key to know the origin of the file.
    pub public_key: String,
}

/// The text that is signed. It has no time and no id of the report, so that the same
/// file always has the same signature.
#[must_use]
pub fn signed_text(sha256: &str, size: u64) -> String {
    format!("passbook artifact v1\n{sha256}\n{size}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signed_text_never_changes() {
        assert_eq!(signed_text("00ff", 12), "passbook artifact v1\n00ff\n12\n");
    }
}
