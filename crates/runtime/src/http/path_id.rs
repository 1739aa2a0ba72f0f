//! The id in the path of a request.

use std::{fmt::Display, str::FromStr};

use axum::{
    extract::{FromRequestParts, Path},
    http::request::Parts,
};

use super::problem::{MALFORMED_ID, Problem};

/// The single id in a path. A request with any other text in its place is rejected
/// with `malformed-id`.
#[derive(Debug, Clone, Copy)]
pub struct PathId<T>(pub T);

impl<S: Send + Sync, T: FromStr<Err: Display>> FromRequestParts<S> for PathId<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|rejection| MALFORMED_ID.because(format!("{}.", rejection.body_text())))?;
        text.parse().map(Self).map_err(|error| MALFORMED_ID.because(format!("An id {error}.")))
    }
}
