//! The checks of a request that need no database, together.

use runtime::http::{json_body, problem::Problem};

use super::{change::ChangeWebhookEndpoint, create::CreateWebhookEndpoint, url::UrlRules};
use crate::signature::Algorithm;

/// What a request sets of an endpoint. `None`: it keeps its value, or has none.
#[derive(Debug)]
pub struct ParsedEndpoint {
    pub url: Option<String>,
    pub description: Option<String>,
    /// The numbers of types.
    pub types: Option<Vec<i16>>,
    /// Of a new endpoint.
    pub algorithm: Option<Algorithm>,
}

/// Parses the body of `POST /v1/webhook-endpoints`.
///
/// # Errors
/// `malformed-json`, `duplicate-field`, `invalid-field` or `webhook-url-not-allowed`
pub fn parse_endpoint(body: &[u8], rules: UrlRules<'_>) -> Result<ParsedEndpoint, Problem> {
    let body: CreateWebhookEndpoint = json_body::object("The body", body)?;
    let (types, algorithm) = body.check(rules)?;
    let CreateWebhookEndpoint { url, description, .. } = body;
    Ok(ParsedEndpoint { url: Some(url), description, types, algorithm: Some(algorithm) })
}

/// Parses the body of `PATCH /v1/webhook-endpoints/{id}`.
///
/// # Errors
/// As of [`parse_endpoint`].
pub fn parse_change(body: &[u8], rules: UrlRules<'_>) -> Result<ParsedEndpoint, Problem> {
    let body: ChangeWebhookEndpoint = json_body::object("The body", body)?;
    let (types, _) = body.check(rules)?;
    let ChangeWebhookEndpoint { url, description, .. } = body;
    let (description, types) = (description.flatten(), types.flatten());
    Ok(ParsedEndpoint { url, description, types, algorithm: None })
}
