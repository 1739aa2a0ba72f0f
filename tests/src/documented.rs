//! Compares every response that the tests receive with `docs/openapi.json`: the status, the media
//! type, the body and the type of a problem must be documented for the operation. Required headers
//! may not be missing. Bodies may not have fields that the document does not have.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, LazyLock, Mutex},
};

use jsonschema::Validator;
use reqwest::Method;
use serde_json::{Value, json};

use crate::Response;

static DOCUMENT: LazyLock<Document> =
    LazyLock::new(|| Document::new(include_str!("../../docs/openapi.json")));

/// What the layers around every handler answer, and the fallback for unknown paths and methods.
const SHARED: [&str; 5] =
    ["malformed-request", "uri-too-long", "head-too-large", "internal", "unavailable"];
/// The statuses of the development proxy's own responses.
const PROXY: [u16; 6] = [400, 404, 431, 502, 503, 504];

/// Panics if the response is not documented for this request.
pub fn assert_documented(method: &Method, path: &str, response: &Response) {
    if let Err(reason) = DOCUMENT.check(method, path, response) {
        panic!("docs/openapi.json has no such response to {method} {path}: {reason}\n{response:?}");
    }
}

struct Document {
    root: Value,
    /// The schemas by their place in the document.
    validators: Mutex<HashMap<String, Arc<Validator>>>,
    /// The locations of successes without `Idempotent-Replayed`.
    created: Mutex<HashSet<String>>,
}

impl Document {
    fn new(text: &str) -> Self {
        let mut root: Value = serde_json::from_str(text).unwrap();
        root["components"]["schemas"].as_object_mut().unwrap().values_mut().for_each(close);
        Self { root, validators: Mutex::default(), created: Mutex::default() }
    }

    fn check(&self, method: &Method, path: &str, response: &Response) -> Result<(), String> {
        let path = path.split(['?', '#']).next().unwrap();
        if !path.starts_with("/v1/") {
            return Ok(());
        }
        if response.body["type"] == "about:blank" && PROXY.contains(&response.status) {
            return self.check_body("/components/schemas/Problem", &response.body);
        }
        let Some(template) = self.template(path) else {
            return self.check_problem(response, 404, "no-such-path");
        };
        let key = if *method == Method::HEAD { Method::GET } else { method.clone() };
        let key = key.as_str().to_lowercase();
        let operation = format!("/paths/{}/{key}", template.replace('/', "~1"));
        if self.root.pointer(&operation).is_none() {
            return self.check_problem(response, 405, "method-not-allowed");
        }
        let declared = format!("{operation}/responses/{}", response.status);
        let declared = self.resolve(&declared).ok_or("no such status")?;
        self.check_problem_type(&declared, response)?;
        self.check_headers(&declared, response)?;
        let is_empty = *method == Method::HEAD || response.bytes.is_empty();
        let Some(content) = self.root.pointer(&format!("{declared}/content")) else {
            return is_empty.then_some(()).ok_or_else(|| "it has no body".to_owned());
        };
        let media_type = response.header("content-type").unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap();
        let mut known = [media_type, "*/*"].into_iter();
        let known = known.find(|known| content.get(known).is_some());
        let known = known.ok_or_else(|| format!("no media type {media_type:?}"))?;
        let schema = format!("{declared}/content/{}/schema", known.replace('/', "~1"));
        if is_empty || !media_type.ends_with("json") || self.root.pointer(&schema).is_none() {
            return Ok(());
        }
        self.check_body(&schema, &response.body)
    }

    /// The path's template, such as `/v1/records/{record}`. A literal part goes before an id.
    fn template(&self, path: &str) -> Option<&str> {
        let parts: Vec<_> = path.split('/').collect();
        let templates = self.root["paths"].as_object().unwrap().keys().map(String::as_str);
        templates
            .filter(|template| {
                let template: Vec<_> = template.split('/').collect();
                template.len() == parts.len()
                    && template.iter().zip(&parts).all(|(template, part)| {
                        template == part || (template.starts_with('{') && !part.is_empty())
                    })
            })
            .min_by_key(|template| template.matches('{').count())
    }

    /// The pointer to a response, past its `$ref`.
    fn resolve(&self, pointer: &str) -> Option<String> {
        let reference = self.root.pointer(pointer)?["$ref"].as_str();
        Some(reference.map_or_else(|| pointer.to_owned(), |reference| reference[1..].to_owned()))
    }

    fn check_problem_type(&self, declared: &str, response: &Response) -> Result<(), String> {
        let types = &self.root.pointer(declared).unwrap()["x-problem-types"];
        let Some(types) = types.as_array() else { return Ok(()) };
        let problem = response.problem();
        // The response to HEAD has no body.
        let is_known = response.bytes.is_empty() || types.iter().any(|known| known == problem);
        is_known.then_some(()).ok_or_else(|| format!("no problem {problem:?} with this status"))
    }

    fn check_headers(&self, declared: &str, response: &Response) -> Result<(), String> {
        let Some(headers) = self.root.pointer(&format!("{declared}/headers")) else {
            return Ok(());
        };
        let headers = headers.as_object().unwrap();
        for name in headers.keys() {
            let header = self.resolve(&format!("{declared}/headers/{name}")).unwrap();
            let is_required = self.root.pointer(&header).unwrap()["required"] == true;
            if is_required && response.header(name).is_none() {
                return Err(format!("no header {name}"));
            }
        }
        // Something is created once: every other response about it is a replay. But a request may
        // join the report of another one.
        let name = "Idempotent-Replayed";
        if headers.contains_key(name) && response.header(name).is_none() {
            let location = response.header("location").unwrap();
            let may_join = location.starts_with("/v1/reports/");
            if !may_join && !self.created.lock().unwrap().insert(location.to_owned()) {
                return Err(format!("no header {name}, for the second time"));
            }
        }
        Ok(())
    }

    /// Checks the response to a request without an operation.
    fn check_problem(&self, response: &Response, status: u16, slug: &str) -> Result<(), String> {
        let problem = response.problem();
        if !SHARED.contains(&problem) && (response.status, problem) != (status, slug) {
            return Err(format!("there is no operation, so it must be {status} {slug}"));
        }
        if response.status == 405 && response.header("allow").is_none() {
            return Err("a 405 needs the header Allow".to_owned());
        }
        self.check_body("/components/schemas/Problem", &response.body)
    }

    fn check_body(&self, pointer: &str, body: &Value) -> Result<(), String> {
        let validator = self.validator(pointer);
        let errors = validator.iter_errors(body);
        let errors = errors.map(|error| format!("body{}: {error}", error.instance_path()));
        let errors = errors.collect::<Vec<_>>().join("; ");
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    fn validator(&self, pointer: &str) -> Arc<Validator> {
        let mut validators = self.validators.lock().unwrap();
        let validator = validators.entry(pointer.to_owned()).or_insert_with(|| {
            let schema = json!({
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "allOf": [self.root.pointer(pointer).unwrap()],
                "components": self.root["components"],
            });
            let options = jsonschema::options().should_validate_formats(true);
            Arc::new(options.build(&schema).unwrap())
        });
        Arc::clone(validator)
    }
}

/// Forbids fields that an object's schema does not name.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            map.values_mut().for_each(close);
            if map.contains_key("properties") {
                map.entry("additionalProperties").or_insert(Value::Bool(false));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderMap, HeaderName};

    use super::*;

    fn response(status: u16, media_type: &str, body: Value) -> Response {
        let mut headers = HeaderMap::new();
        for (name, value) in [("content-type", media_type), ("etag", "\"1\""), ("request-id", "1")]
        {
            headers.insert(name, value.parse().unwrap());
        }
        Response { status, headers, bytes: body.to_string().into(), body }
    }

    fn check(path: &str, response: &Response) -> Result<(), String> {
        DOCUMENT.check(&Method::GET, path, response)
    }

    fn account() -> Value {
        DOCUMENT.root["components"]["schemas"]["Account"]["examples"][0].clone()
    }

    #[test]
    fn a_documented_response_passes() {
        assert_eq!(check("/v1/accounts/1", &response(200, "application/json", account())), Ok(()));
    }

    #[test]
    fn an_undocumented_response_fails() {
        let (mut number, mut unknown, mut missing) = (account(), account(), account());
        number["balance"] = json!(1);
        unknown["colour"] = json!("red");
        missing.as_object_mut().unwrap().remove("currency");
        let problem = json!({
            "type": "/problems/record-not-found",
            "status": 404,
            "title": "",
            "detail": "",
        });
        for (what, path, status, media_type, body) in [
            ("status", "/v1/accounts/1", 418, "application/json", account()),
            ("number", "/v1/accounts/1", 200, "application/json", number),
            ("unknown field", "/v1/accounts/1", 200, "application/json", unknown),
            ("missing field", "/v1/accounts/1", 200, "application/json", missing),
            ("media type", "/v1/accounts/1", 200, "text/plain", account()),
            (
                "problem of another operation",
                "/v1/accounts/1",
                404,
                "application/problem+json",
                problem,
            ),
            ("path", "/v1/nothing", 200, "application/json", account()),
            ("method", "/v1/batches", 200, "application/json", account()),
            ("length", "/v1/accounts/1/records/2", 200, "application/json", account()),
        ] {
            assert!(check(path, &response(status, media_type, body)).is_err(), "{what}");
        }
    }

    #[test]
    fn a_success_without_a_required_header_is_refused() {
        let mut opened = response(201, "application/json", account());
        opened.headers.insert("location", "/v1/accounts/of-this-test".parse().unwrap());
        let check = |response: &Response| DOCUMENT.check(&Method::POST, "/v1/accounts", response);
        assert_eq!(check(&opened), Ok(()));
        let replayed = "no header Idempotent-Replayed, for the second time";
        assert_eq!(check(&opened), Err(replayed.to_owned()));
        opened.headers.insert("idempotent-replayed", "true".parse().unwrap());
        assert_eq!(check(&opened), Ok(()));
        for name in ["ETag", "Location", "Request-Id"] {
            let value = opened.headers.remove(name).unwrap();
            assert_eq!(check(&opened), Err(format!("no header {name}")));
            opened.headers.insert(name.parse::<HeaderName>().unwrap(), value);
        }
    }

    /// Checks the examples in a part of the document. Gives their number.
    fn check_examples(pointer: &str, part: &Value) -> usize {
        let schema = if part.get("schema").is_some() { "/schema" } else { "" };
        // A schema has a list of them, a media type has named ones.
        let mut examples: Vec<_> = match &part["examples"] {
            Value::Array(examples) => examples.iter().collect(),
            Value::Object(named) => named.values().map(|named| &named["value"]).collect(),
            _ => Vec::new(),
        };
        examples.extend(part.get("example"));
        for example in &examples {
            let checked = DOCUMENT.check_body(&format!("{pointer}{schema}"), example);
            assert_eq!(checked, Ok(()), "{pointer}: {example}");
        }
        let parts: Vec<_> = match part {
            Value::Object(map) => map.iter().map(|(key, part)| (key.clone(), part)).collect(),
            Value::Array(items) => {
                items.iter().enumerate().map(|(at, part)| (at.to_string(), part)).collect()
            }
            _ => Vec::new(),
        };
        let parts = parts.into_iter().filter(|(key, _)| !key.starts_with("example"));
        let counts = parts.map(|(key, part)| {
            let key = key.replace('~', "~0").replace('/', "~1");
            check_examples(&format!("{pointer}/{key}"), part)
        });
        examples.len() + counts.sum::<usize>()
    }

    #[test]
    fn every_example_of_the_document_is_valid() {
        assert!(check_examples("", &DOCUMENT.root) > 100);
    }
}
