//! The bearer token of the report-service.

use axum::http::{HeaderMap, header::AUTHORIZATION};
use runtime::{
    http::problem::{Problem, UNAUTHENTICATED},
    setting::Secret,
};
use sha2::{Digest, Sha256};

/// The digest of the token. The time to compare two digests tells nothing about the
/// token.
#[derive(Debug)]
pub(super) struct Token([u8; 32]);

impl Token {
    pub(super) fn new(token: &Secret) -> Self {
        Self(Sha256::digest(token.expose()).into())
    }

    /// # Errors
    /// If the request has no such token.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = header.and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
        });
        match token {
            Some(token) if <[u8; 32]>::from(Sha256::digest(token)) == self.0 => Ok(()),
            Some(_) => Err(UNAUTHENTICATED.because("The token is another one.")),
            None => Err(UNAUTHENTICATED.because("Send the header Authorization: Bearer <token>.")),
        }
    }
}
