//! Requests to the API beside the load.

use anyhow::{Context, Result};
use client::{Client, Request};
use serde_json::Value;

use crate::stack::Stack;

/// Sends a request through the development proxy. Returns the JSON of its response.
///
/// # Errors
/// The request is refused, or no response arrived.
pub(crate) async fn request(stack: &Stack, token: &str, request: &Request) -> Result<Value> {
    let answer = Client::new(&stack.file.api, token)?.send(request).await;
    let answer = answer.and_then(client::Answer::success);
    let answer = answer.with_context(|| format!("{} {}", request.method, request.path))?;
    if answer.body.is_empty() { Ok(Value::Null) } else { Ok(answer.json()?) }
}

/// A field of a response.
///
/// # Errors
/// The field is missing, or no string.
pub(crate) fn text(response: &Value, pointer: &str) -> Result<String> {
    let text = response.pointer(pointer).and_then(Value::as_str);
    Ok(text.with_context(|| format!("no {pointer} in {response}"))?.to_owned())
}
