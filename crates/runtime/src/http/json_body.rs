//! The strict JSON body of a request.

use std::time::Duration;

use axum::{
    body::Body,
    extract::{FromRequest, Request},
    http::header,
};
use futures::StreamExt;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_path_to_error::Segment;

use super::problem::{
    BODY_TOO_LARGE, BODY_TOO_SLOW, DUPLICATE_FIELD, INVALID_FIELD, MALFORMED_JSON, Place, Pointer,
    Problem, UNSUPPORTED_MEDIA_TYPE,
};

/// The default limit. The body of any single resource is smaller.
const MAX_BODY_BYTES: usize = 16 * 1024;
/// An oversized body is read and discarded up to this size. After that the
/// connection is closed.
const MAX_DISCARDED_BYTES: usize = 8 * 1024 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A JSON object, read strictly: the right content type, not compressed, at most `MOST` bytes
/// (16 KiB by default), no duplicate field. An error names its field.
#[derive(Debug)]
pub struct JsonBody<T, const MOST: usize = MAX_BODY_BYTES>(pub T);

impl<S: Send + Sync, T: DeserializeOwned, const MOST: usize> FromRequest<S> for JsonBody<T, MOST> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let media_type =
            request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let essence = media_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            return Err(
                UNSUPPORTED_MEDIA_TYPE.because("Send the header Content-Type: application/json.")
            );
        }
        let encoding = request.headers().get(header::CONTENT_ENCODING);
        if let Some(encoding) =
            encoding.filter(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"))
        {
            return Err(UNSUPPORTED_MEDIA_TYPE.because(format!(
                "The body has the Content-Encoding {encoding:?}. Send it without one."
            )));
        }
        let body = match tokio::time::timeout(BODY_TIMEOUT, read(request.into_body(), MOST)).await {
            Ok(read) => read?,
            Err(_) => return Err(BODY_TOO_SLOW.because("Send the body within 10 seconds.")),
        };
        object("The body", &body).map(Self)
    }
}

/// Reads a body. The rest of an oversized body is read and discarded, because a
/// client that is disconnected while sending does not read the response.
async fn read(body: Body, most: usize) -> Result<Vec<u8>, Problem> {
    let mut chunks = body.into_data_stream();
    let mut bytes = Vec::new();
    let mut length = 0;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| {
            MALFORMED_JSON.because(format!("The body could not be read: {error}."))
        })?;
        length += chunk.len();
        if length <= most {
            bytes.extend_from_slice(&chunk);
        } else if length > MAX_DISCARDED_BYTES {
            break;
        }
    }
    if length > most {
        return Err(BODY_TOO_LARGE.because(format!("The body must have at most {most} bytes.")));
    }
    Ok(bytes)
}

/// Reads a JSON object, as strictly as a body. `name` begins a sentence about it.
///
/// # Errors
/// `malformed-json`, `duplicate-field` or `invalid-field`, with the field if there is one.
pub fn object<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, Problem> {
    if bytes.starts_with(b"\xef\xbb\xbf") {
        let detail =
            format!("{name} begins with a byte order mark (EF BB BF). Send it without one.");
        return Err(MALFORMED_JSON.because(detail));
    }
    // A derived struct also accepts an array of its fields by position.
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(match serde_json::from_slice::<IgnoredAny>(bytes) {
            Ok(_) => INVALID_FIELD.because(format!("{name} must be a JSON object.")),
            Err(error) => MALFORMED_JSON.because(format!("{error}.")),
        });
    }
    // Tracking the path in the body takes time, and only an error needs the path.
    if let Ok(body) = serde_json::from_slice(bytes) {
        return Ok(body);
    }
    let json = &mut serde_json::Deserializer::from_slice(bytes);
    let parsed: Result<T, _> = serde_path_to_error::deserialize(&mut *json);
    match parsed {
        Ok(body) => match json.end() {
            Ok(()) => Ok(body),
            Err(error) => Err(MALFORMED_JSON.because(format!("{error}."))),
        },
        Err(error) if error.inner().is_data() => Err(data_problem(&error)),
        Err(error) => Err(MALFORMED_JSON.because(format!("{}.", error.inner()))),
    }
}

fn data_problem(error: &serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let text = error.inner().to_string();
    // An error about a field's name has the path of its parent: the name is in the text.
    let named = ["missing field `", "unknown field `", "duplicate field `"]
        .iter()
        .find_map(|start| text.strip_prefix(start)?.split('`').next());
    let problem_type = if text.starts_with("duplicate") { DUPLICATE_FIELD } else { INVALID_FIELD };
    let path = error.path();
    let mut pointer = Pointer::default();
    for segment in path {
        pointer = match segment {
            Segment::Seq { index } => pointer.item(*index),
            Segment::Map { key } => pointer.field(key),
            Segment::Enum { variant } => pointer.field(variant),
            Segment::Unknown => pointer,
        };
    }
    let field = named.map_or_else(|| path.to_string(), str::to_owned);
    let problem = problem_type.because(format!("{text}."));
    if field == "." {
        return problem;
    }
    // The path of an error about a field's name may or may not end in it.
    if let Some(name) = named
        && path.iter().next_back().is_none_or(|last| last.to_string() != name)
    {
        pointer = pointer.field(name);
    }
    problem.at_place(Place::Body { pointer, field: Some(field) })
}

#[cfg(test)]
mod tests {
    use axum::{body::to_bytes, response::IntoResponse};
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Example {
        amount: String,
    }

    async fn problem_of(body: &[u8]) -> serde_json::Value {
        let problem = object::<Example>("The body", body).unwrap_err();
        let body = to_bytes(problem.into_response().into_body(), 4096).await.unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    #[tokio::test]
    async fn a_problem_names_its_type_and_field() {
        let deep = format!("{{\"amount\":{}{}}}", "[".repeat(64), "]".repeat(64));
        let very_deep = format!("{{\"x\":{}{}}}", "[".repeat(500), "]".repeat(500));
        for (body, slug, field) in [
            ("", "malformed-json", None),
            ("{", "malformed-json", None),
            ("{\"amount\":\"1\"} x", "malformed-json", None),
            ("{\"amount\":\"\\ud800\"}", "malformed-json", None),
            ("{\"amount\":\"1\",\"amount\":\"2\"}", "duplicate-field", Some("amount")),
            ("{\"amount\":1}", "invalid-field", Some("amount")),
            ("{\"amount\":null}", "invalid-field", Some("amount")),
            ("{}", "invalid-field", Some("amount")),
            ("{\"amount\":\"1\",\"amuont\":\"2\"}", "invalid-field", Some("amuont")),
            ("[\"1\"]", "invalid-field", None),
            ("\"1\"", "invalid-field", None),
            (&deep, "invalid-field", Some("amount")),
            (&very_deep, "invalid-field", Some("x")),
        ] {
            let problem = problem_of(body.as_bytes()).await;
            assert_eq!(problem["type"], format!("/problems/{slug}"), "{body}");
            assert_eq!(problem["field"].as_str(), field, "{body}");
            let pointer = field.map(|field| format!("#/{field}"));
            assert_eq!(problem["errors"][0]["pointer"].as_str(), pointer.as_deref(), "{body}");
        }
        assert_eq!(problem_of(b"{\"amount\":\"\xff\"}").await["type"], "/problems/malformed-json");
    }

    #[tokio::test]
    async fn a_body_that_is_too_large_is_not_called_malformed() {
        let long = Request::post("/")
            .header("content-type", "application/json")
            .body(Body::from("x".repeat(MAX_BODY_BYTES + 1)))
            .unwrap();
        let problem = JsonBody::<Example>::from_request(long, &()).await.unwrap_err();
        assert_eq!(problem.into_response().status(), 413);
    }
}
