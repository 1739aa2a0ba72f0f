//! The size and SHA-256 of a file.

use sha2::{Digest, Sha256};

/// The size and digest of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Bytes.
    pub size: u64,
    pub sha256: [u8; 32],
}

/// Counts and hashes a file's bytes.
#[derive(Debug, Default)]
pub struct FileDigest {
    size: u64,
    hash: Sha256,
}

impl FileDigest {
    pub fn update(&mut self, chunk: &[u8]) {
        self.size = self.size.saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
        self.hash.update(chunk);
    }

    #[must_use]
    pub fn stored(self) -> Stored {
        Stored { size: self.size, sha256: self.hash.finalize().into() }
    }
}
