//! Requests to the API beside the load.

use anyhow::{Context, Result, ensure};
use reqwest::{Client, Method, StatusCode};
use serde_json::Value;

use crate::stack::Stack;

/// Sends a request through the development proxy. Returns the JSON of its response.
///
/// # Errors
/// The response has another status than 200, 201 and 204, or none arrived.
pub(crate) async fn request(
    stack: &Stack,
    token: &str,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<Value> {
    let url = format!("{}{path}", stack.file.api);
    let mut request = Client::new().request(method, &url).bearer_auth(token);
    if let Some(body) = body {
        request = request.json(body);
    }
    let response = request.send().await?;
    let status = response.status();
    let text = response.text().await?;
    let expected = [StatusCode::OK, StatusCode::CREATED, StatusCode::NO_CONTENT];
    ensure!(expected.contains(&status), "{url} gave {status}: {text}");
    if text.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(&text).with_context(|| format!("{url} gave {text}"))
}

/// A field of a response.
///
/// # Errors
/// The field is missing, or no string.
pub(crate) fn text(response: &Value, pointer: &str) -> Result<String> {
    let text = response.pointer(pointer).and_then(Value::as_str);
    Ok(text.with_context(|| format!("no {pointer} in {response}"))?.to_owned())
}
