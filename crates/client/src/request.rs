//! A request and its answer, as they are on the connection.

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    header::{CONTENT_TYPE, HeaderName},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{Cause, Error, IdempotencyKey, Problem};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const PREFER: HeaderName = HeaderName::from_static("prefer");

/// A request to the API. The client adds its token, unless `headers` has an `Authorization`.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The path with its query, such as `/v1/accounts?limit=1`.
    pub path: String,
    /// More headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Request {
    /// A request without a body.
    #[must_use]
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// A GET.
    #[must_use]
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// A POST of this JSON.
    ///
    /// # Errors
    /// The body has no JSON form.
    pub fn post(path: impl Into<String>, body: &impl Serialize) -> Result<Self, Error> {
        let json = serde_json::to_vec(body);
        let json = json.map_err(|error| Error::invalid_request(error.to_string()))?;
        let mut request = Self::new(Method::POST, path);
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request.body = json.into();
        Ok(request)
    }

    /// Adds the idempotency key.
    #[must_use]
    pub fn key(mut self, key: &IdempotencyKey) -> Self {
        self.headers.extend(key.header().map(|key| (IDEMPOTENCY_KEY, key)));
        self
    }

    /// Lets the service wait for the settlement or the end of the report, in whole seconds. The
    /// service limits it, usually to 30 s.
    #[must_use]
    pub fn wait(mut self, wait: Option<Duration>) -> Self {
        let wait = wait.map(|wait| format!("wait={}", wait.as_secs()));
        let wait = wait.and_then(|wait| HeaderValue::from_str(&wait).ok());
        self.headers.extend(wait.map(|wait| (PREFER, wait)));
        self
    }
}

/// A complete answer, of any status.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// Whether the request was applied before, under the same key.
    #[must_use]
    pub fn is_replayed(&self) -> bool {
        self.headers.contains_key(IDEMPOTENT_REPLAYED)
    }

    /// The answer, if its status is one of success.
    ///
    /// # Errors
    /// [`Cause::Problem`] or [`Cause::UnexpectedAnswer`]
    pub fn success(self) -> Result<Self, Error> {
        if self.status.is_success() { Ok(self) } else { Err(self.refusal()) }
    }

    /// What an answer without success means.
    pub(crate) fn refusal(&self) -> Error {
        Error::new(match self.status.as_u16() {
            400..=599 => Cause::Problem(Box::new(Problem::of(self))),
            status => Cause::UnexpectedAnswer(format!("it has the status {status}")),
        })
    }

    /// The JSON of the body.
    ///
    /// # Errors
    /// [`Cause::BrokenAnswer`] or [`Cause::UnexpectedAnswer`]
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let reason = error.to_string();
            Error::new(if error.is_data() {
                Cause::UnexpectedAnswer(reason)
            } else {
                Cause::BrokenAnswer(reason)
            })
        })
    }
}
