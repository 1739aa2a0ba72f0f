//! Completes the operations. The handlers declare what is their own; what the extractors and the
//! layers around every handler can answer follows from a declaration:
//!
//! - A response with a status of 400 or more is declared with the slugs of its problems, separated
//!   by spaces. It becomes a response with that problem.
//! - A body, a bearer token, an id in the path, a query and an `Idempotency-Key` have their
//!   problems, wherever they occur.
//! - `Idempotency-Key` and `Prefer` have a header in each success.
//! - A 304 has the `ETag`, a 429 and a 503 have `Retry-After`, a 401 has `WWW-Authenticate`.
//! - A header of a response is required, unless it can be null or depends on the request.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use runtime::http::{
    idempotency_key::{KEY_MALFORMED, KEY_MISSING, KEY_REUSED},
    page::{INVALID_CURSOR, INVALID_QUERY},
    problem::{
        BODY_TOO_LARGE, BODY_TOO_SLOW, DUPLICATE_FIELD, FORBIDDEN, HEAD_TOO_LARGE, INTERNAL,
        INVALID_FIELD, MALFORMED_ID, MALFORMED_JSON, MALFORMED_REQUEST, OUTCOME_UNKNOWN,
        ProblemType, TOO_MANY_REQUESTS, UNAUTHENTICATED, UNAVAILABLE, UNSUPPORTED_MEDIA_TYPE,
        URI_TOO_LONG,
    },
};
use serde_json::{Map, Value, json};

use crate::{document::object, problems};

/// The problems by status, without duplicates.
type ByStatus<'a> = BTreeMap<u16, BTreeMap<&'static str, &'a ProblemType>>;

/// Completes every operation of the document.
///
/// # Errors
/// If a declaration is invalid.
pub(crate) fn complete(document: &mut Value, types: &[ProblemType]) -> anyhow::Result<()> {
    let mut shared = Map::new();
    for (path, item) in object(document, "paths")? {
        for (method, operation) in item.as_object_mut().context("a path has no operations")? {
            complete_operation(method, operation, types, &mut shared)
                .with_context(|| format!("{method} {path}"))?;
        }
    }
    let components = document.get_mut("components").context("no components")?;
    object(components, "responses")?.append(&mut shared);
    object(components, "headers")?.append(&mut headers());
    Ok(())
}

fn headers() -> Map<String, Value> {
    const REQUIRED: [&str; 4] = ["ETag", "Retry-After", "WWW-Authenticate", "Request-Id"];
    [
        ("ETag", "string", "Of the representation that the client has."),
        ("Retry-After", "integer", "Seconds until the next try."),
        ("WWW-Authenticate", "string", "`Bearer`"),
        ("Request-Id", "string", "The trace of the request, also in the service's log."),
        (
            "RateLimit-Policy",
            "string",
            "The caller's limits: requests `q` in `w` seconds, for a batch also movements.",
        ),
        (
            "RateLimit",
            "string",
            "Requests or movements `r` that remain, and seconds `t` until all do.",
        ),
        ("Idempotent-Replayed", "string", "`true` if the request was accepted before."),
        ("Preference-Applied", "string", "`wait=N` with the applied wait."),
    ]
    .map(|(name, kind, description)| {
        let mut header = json!({ "description": description, "schema": { "type": kind } });
        if REQUIRED.contains(&name) {
            require(&mut header);
        }
        (name.to_owned(), header)
    })
    .into_iter()
    .collect()
}

fn complete_operation(
    method: &str,
    operation: &mut Value,
    types: &[ProblemType],
    shared: &mut Map<String, Value>,
) -> anyhow::Result<()> {
    let mut by_status = ByStatus::new();
    for problem in implied(method, operation) {
        let problem = problems::find(types, problem.slug)?;
        by_status.entry(problem.status.as_u16()).or_default().insert(problem.slug, problem);
    }
    let given = operation.get_mut("parameters").and_then(Value::as_array_mut);
    for parameter in given.into_iter().flatten() {
        without_null(parameter);
    }
    let success_headers = success_headers(operation);
    let responses = object(operation, "responses")?;
    for (status, mut response) in std::mem::take(responses) {
        let number: u16 = status.parse()?;
        let given = response.get_mut("headers").and_then(Value::as_object_mut);
        for (_, header) in given.into_iter().flatten() {
            if !without_null(header) {
                require(header);
            }
        }
        if number < 400 {
            let headers = match number {
                304 => &["ETag"],
                _ => success_headers.as_slice(),
            };
            responses.insert(status, with_headers(response, headers)?);
            continue;
        }
        let slugs = response.get("description").and_then(Value::as_str).unwrap_or_default();
        for slug in slugs.split_whitespace() {
            let problem = problems::find(types, slug)?;
            if problem.status.as_u16() != number {
                bail!("the problem {slug} has another status than {number}");
            }
            by_status.entry(number).or_default().insert(problem.slug, problem);
        }
    }
    for (status, found) in by_status {
        let found: Vec<_> = found.into_values().collect();
        let mut response = problems::response(&found);
        if let [problem] = *found {
            let name = problems::component(problem);
            let reference = json!({ "$ref": format!("#/components/responses/{name}") });
            shared.insert(name, std::mem::replace(&mut response, reference));
        }
        responses.insert(status.to_string(), response);
    }
    Ok(())
}

/// The problems of the extractors and layers of an operation.
fn implied(method: &str, operation: &Value) -> Vec<ProblemType> {
    let mut problems = vec![MALFORMED_REQUEST, URI_TOO_LONG, HEAD_TOO_LARGE, INTERNAL, UNAVAILABLE];
    if !is_public(operation) {
        problems.extend([UNAUTHENTICATED, FORBIDDEN, TOO_MANY_REQUESTS]);
    }
    if operation.get("requestBody").is_some() {
        problems.extend([MALFORMED_JSON, DUPLICATE_FIELD, INVALID_FIELD, BODY_TOO_LARGE]);
        problems.extend([BODY_TOO_SLOW, UNSUPPORTED_MEDIA_TYPE]);
    }
    if matches!(method, "post" | "patch" | "delete") {
        problems.push(OUTCOME_UNKNOWN);
    }
    for parameter in parameters(operation) {
        let text = |pointer: &str| parameter.pointer(pointer).and_then(Value::as_str);
        match (text("/in"), text("/name"), text("/schema/format")) {
            (Some("path"), _, Some("uuid")) => problems.push(MALFORMED_ID),
            (Some("query"), Some("cursor"), _) => problems.push(INVALID_CURSOR),
            (Some("query"), ..) => problems.extend([INVALID_FIELD, INVALID_QUERY]),
            (Some("header"), Some("Idempotency-Key"), _) => {
                problems.extend([KEY_MALFORMED, KEY_REUSED]);
                if parameter.get("required") == Some(&Value::Bool(true)) {
                    problems.push(KEY_MISSING);
                }
            }
            _ => {}
        }
    }
    problems
}

fn require(header: &mut Value) {
    if let Some(header) = header.as_object_mut() {
        header.insert("required".to_owned(), Value::Bool(true));
    }
}

/// Removes null from the schema of a parameter or header: it can be absent, but not null. Gives
/// whether there was a null.
fn without_null(parameter: &mut Value) -> bool {
    let Some(schema) = parameter.get_mut("schema") else { return false };
    let is_null = |value: &Value| value == "null" || value.get("type") == Some(&json!("null"));
    let only = |all: &Value| {
        let mut others = all.as_array()?.iter().filter(|value| !is_null(value));
        others.next().filter(|_| others.next().is_none()).cloned()
    };
    if let Some(only) = schema.get("oneOf").and_then(only) {
        *schema = only;
        return true;
    }
    if let Some(only) = schema.get("type").and_then(only)
        && let Some(schema) = schema.as_object_mut()
    {
        schema.insert("type".to_owned(), only);
        return true;
    }
    false
}

fn parameters(operation: &Value) -> impl Iterator<Item = &Value> {
    operation.get("parameters").and_then(Value::as_array).into_iter().flatten()
}

/// Whether the operation needs no token: its security is one empty requirement.
fn is_public(operation: &Value) -> bool {
    let security = operation.get("security").and_then(Value::as_array);
    security.is_some_and(|all| all.iter().any(|one| one.as_object().is_some_and(Map::is_empty)))
}

/// The headers of successes that follow from the layers and the headers of the request.
fn success_headers(operation: &Value) -> Vec<&'static str> {
    let name = |parameter: &Value| match parameter.get("name").and_then(Value::as_str) {
        Some("Idempotency-Key") => Some("Idempotent-Replayed"),
        Some("Prefer") => Some("Preference-Applied"),
        _ => None,
    };
    let mut headers = vec!["Request-Id"];
    if !is_public(operation) {
        headers.extend(["RateLimit-Policy", "RateLimit"]);
    }
    headers.extend(parameters(operation).filter_map(name));
    headers
}

fn with_headers(mut response: Value, names: &[&str]) -> anyhow::Result<Value> {
    let headers = object(&mut response, "headers")?;
    for name in names {
        let reference = json!({ "$ref": format!("#/components/headers/{name}") });
        headers.insert((*name).to_owned(), reference);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(operation: Value) -> anyhow::Result<Value> {
        let mut document = json!({
            "paths": { "/v1/things": { "post": operation } },
            "components": {},
        });
        complete(&mut document, &problems::all()?)?;
        Ok(document)
    }

    fn types(document: &Value, status: &str) -> Vec<String> {
        let response = &document["paths"]["/v1/things"]["post"]["responses"][status];
        let shared = response["$ref"].as_str().map(|name| name.trim_start_matches('#'));
        let response = shared.map_or(response, |pointer| document.pointer(pointer).unwrap());
        let types = response["x-problem-types"].as_array().unwrap();
        types.iter().map(|slug| slug.as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn problems_follow_from_the_declaration() {
        let key = json!({ "in": "header", "name": "Idempotency-Key", "required": true });
        let document = completed(json!({
            "parameters": [key],
            "requestBody": {},
            "responses": {
                "200": { "description": "fine" },
                "404": { "description": "account-not-found" },
            },
        }));
        let document = document.unwrap();
        assert_eq!(types(&document, "401"), ["unauthenticated"]);
        assert_eq!(types(&document, "404"), ["account-not-found"]);
        assert_eq!(types(&document, "422"), ["idempotency-key-reused", "invalid-field"]);
        assert_eq!(types(&document, "503"), ["outcome-unknown", "unavailable"]);
        let success = &document["paths"]["/v1/things"]["post"]["responses"]["200"];
        assert!(success["headers"]["Idempotent-Replayed"].is_object(), "{success}");
    }

    #[test]
    fn every_write_may_have_an_unknown_outcome() {
        for (method, is_write) in
            [("get", false), ("post", true), ("patch", true), ("delete", true)]
        {
            let problems = implied(method, &json!({}));
            assert_eq!(problems.contains(&OUTCOME_UNKNOWN), is_write, "{method}");
        }
    }

    #[test]
    fn an_unknown_problem_and_a_wrong_status_are_errors() {
        for (status, slug) in [("404", "no-such-problem"), ("409", "account-not-found")] {
            let responses = json!({ status: { "description": slug } });
            assert!(completed(json!({ "responses": responses })).is_err(), "{status} {slug}");
        }
    }
}
