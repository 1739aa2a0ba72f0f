//! The id in a path.

use std::{fmt::Display, str::FromStr};

use axum::{
    extract::{FromRequestParts, Path},
    http::request::Parts,
};
use runtime::problem::Problem;

use super::problems::MALFORMED_ID;

/// The one id that a path has, in its one form.
#[derive(Debug, Clone, Copy)]
pub(super) struct PathId<T>(pub(super) T);

impl<S: Send + Sync, T: FromStr<Err: Display>> FromRequestParts<S> for PathId<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|rejection| MALFORMED_ID.because(format!("{}.", rejection.body_text())))?;
        text.parse().map(Self).map_err(|error| MALFORMED_ID.because(format!("An id {error}.")))
    }
}
