//! The checks of a request that need no database, together.

use runtime::http::{json_body, problem::Problem};

use super::{
    change::ChangeWebhookEndpoint,
    create::{CreateWebhookEndpoint, check_description, parse_algorithm, parse_types},
    url::UrlRules,
};
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
    rules.check(&body.url)?;
    check_description(body.description.as_deref())?;
    let types = parse_types(body.types.as_deref())?;
    let algorithm = Some(parse_algorithm(body.signature.as_deref())?);
    Ok(ParsedEndpoint { url: Some(body.url), description: body.description, types, algorithm })
}

/// Parses the body of `PATCH /v1/webhook-endpoints/{id}`.
///
/// # Errors
/// As of [`parse_endpoint`].
pub fn parse_change(body: &[u8], rules: UrlRules<'_>) -> Result<ParsedEndpoint, Problem> {
    let body: ChangeWebhookEndpoint = json_body::object("The body", body)?;
    if let Some(url) = &body.url {
        rules.check(url)?;
    }
    let description = body.description.flatten();
    check_description(description.as_deref())?;
    let types = parse_types(body.types.flatten().as_deref())?;
    Ok(ParsedEndpoint { url: body.url, description, types, algorithm: None })
}
