//! Sends one delivery to its receiver.

use std::{
    error::Error,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use axum::{
    body::Bytes,
    http::{
        HeaderMap, Request, StatusCode, Uri,
        header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT},
    },
};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, Client},
    rt::{TokioExecutor, TokioTimer},
};
use time::{OffsetDateTime, format_description::well_known::Rfc2822};
use tokio::time::timeout;

use crate::{
    address::AddressGuard,
    connector::{ConnectError, GuardedConnector},
    signature::{SigningKey, signatures},
};

const AGENT: &str = concat!("Passbook-Webhooks/", env!("CARGO_PKG_VERSION"));
/// Maximum bytes of the head of a response.
const MAX_HEAD: usize = 16 * 1024;
/// Maximum bytes of a body that are read, so that the connection can be used again.
const MAX_BODY: usize = 16 * 1024;
/// Time limit for that body. The status decides about the delivery.
const BODY_LIMIT: Duration = Duration::from_secs(1);
/// How long an unused connection stays open.
const IDLE_LIMIT: Duration = Duration::from_secs(30);

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver answered 2xx.
    Delivered,
    Failed(Failure),
}

/// A failed attempt.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Failure {
    /// For the owner of the endpoint.
    pub error: String,
    /// How long the receiver wants to be left alone.
    pub retry_after: Option<Duration>,
    /// The receiver has too much load.
    pub is_overloaded: bool,
    /// The receiver wants no more deliveries (410).
    pub is_gone: bool,
}

impl Failure {
    fn because(error: impl Into<String>) -> Self {
        Self { error: error.into(), ..Self::default() }
    }
}

/// An attempt that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// The status of the response, if there was one.
    pub status: Option<u16>,
    pub outcome: Outcome,
}

impl From<Failure> for Sent {
    fn from(failure: Failure) -> Self {
        Self { status: None, outcome: Outcome::Failed(failure) }
    }
}

/// One request.
#[derive(Debug)]
pub struct Delivery<'a> {
    pub url: &'a Uri,
    pub keys: &'a [SigningKey],
    /// Of the event: the same in each attempt.
    pub id: &'a str,
    pub body: Vec<u8>,
}

/// Sends requests to permitted addresses. It follows no redirect, and uses no proxy.
#[derive(Debug, Clone)]
pub struct Sender {
    client: Client<HttpsConnector<GuardedConnector>, Full<Bytes>>,
    limit: Duration,
}

impl Sender {
    /// A sender. `limit` is for one attempt.
    ///
    /// # Errors
    /// If the machine has no root certificates.
    pub fn new(guard: AddressGuard, limit: Duration) -> anyhow::Result<Self> {
        let connector = HttpsConnectorBuilder::new()
            .with_native_roots()
            .context("loading this machine's root certificates")?
            .https_or_http()
            .enable_http1()
            .wrap_connector(GuardedConnector::new(guard));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_LIMIT)
            .http1_max_buf_size(MAX_HEAD)
            .build(connector);
        Ok(Self { client, limit })
    }

    /// Makes one attempt.
    pub async fn send(&self, delivery: Delivery<'_>) -> Sent {
        let request = match request(delivery) {
            Ok(request) => request,
            Err(failure) => return failure.into(),
        };
        let Ok(response) = timeout(self.limit, self.client.request(request)).await else {
            return Failure::because(format!("no answer in {:?}", self.limit)).into();
        };
        let response = match response {
            Ok(response) => response,
            Err(error) => return Failure::because(describe(&error)).into(),
        };
        let status = response.status();
        let outcome = judge(status, response.headers());
        // Its content is of no use, and would show an attacker more than the status.
        let body = Limited::new(response.into_body(), MAX_BODY).collect();
        let _ = timeout(BODY_LIMIT, body).await;
        Sent { status: Some(status.as_u16()), outcome }
    }
}

fn request(delivery: Delivery<'_>) -> Result<Request<Full<Bytes>>, Failure> {
    let Delivery { url, keys, id, body } = delivery;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let timestamp = i64::try_from(now.as_secs()).unwrap_or_default();
    let request = Request::post(url.clone())
        .header(CONTENT_TYPE, "application/json")
        .header(USER_AGENT, AGENT)
        .header("webhook-id", id)
        .header("webhook-timestamp", timestamp)
        .header("webhook-signature", signatures(keys, id, timestamp, &body))
        .body(Full::from(body));
    request.map_err(|_| Failure::because("the request could not be made"))
}

/// What an answer means.
fn judge(status: StatusCode, headers: &HeaderMap) -> Outcome {
    if status.is_success() {
        return Outcome::Delivered;
    }
    let is_overloaded = [
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::BAD_GATEWAY,
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::GATEWAY_TIMEOUT,
    ];
    Outcome::Failed(Failure {
        error: format!("the receiver answered {}", status.as_u16()),
        retry_after: retry_after(headers, OffsetDateTime::now_utc()),
        is_overloaded: is_overloaded.contains(&status),
        is_gone: status == StatusCode::GONE,
    })
}

/// `Retry-After`: seconds or a date.
#[must_use]
pub fn retry_after(headers: &HeaderMap, now: OffsetDateTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = OffsetDateTime::parse(text, &Rfc2822).ok()?;
    (date - now).try_into().ok()
}

/// Why no response arrived, without the parts that tell about this network.
fn describe(error: &legacy::Error) -> String {
    let mut source: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(cause) = source {
        if let Some(cause) = cause.downcast_ref::<ConnectError>() {
            return cause.to_string();
        }
        source = cause.source();
    }
    if error.is_connect() {
        "no TLS connection: see the certificate of the host".to_owned()
    } else {
        "the connection was lost, or the answer was not HTTP".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use time::macros::datetime;

    use super::*;

    fn failure(status: u16) -> Failure {
        match judge(StatusCode::from_u16(status).unwrap(), &HeaderMap::new()) {
            Outcome::Delivered => panic!("{status}"),
            Outcome::Failed(failure) => failure,
        }
    }

    #[test]
    fn only_2xx_is_a_delivery() {
        for status in [200, 202, 204, 299] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(judge(status, &HeaderMap::new()), Outcome::Delivered);
        }
        for status in [301, 302, 307, 400, 404, 500] {
            let failure = failure(status);
            assert!(!failure.is_gone && !failure.is_overloaded, "{status}");
            assert_eq!(failure.error, format!("the receiver answered {status}"));
        }
        for status in [429, 502, 503, 504] {
            assert!(failure(status).is_overloaded, "{status}");
        }
        assert!(failure(410).is_gone);
        let later = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static("7"))]);
        let Outcome::Failed(failure) = judge(StatusCode::SERVICE_UNAVAILABLE, &later) else {
            panic!("503 is a failure")
        };
        assert_eq!(failure.retry_after, Some(Duration::from_secs(7)));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = datetime!(2026-11-29 09:00:00 UTC);
        let read = |text: &'static str| {
            let value = HeaderValue::from_static(text);
            retry_after(&HeaderMap::from_iter([(RETRY_AFTER, value)]), now)
        };
        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        assert_eq!(read("Sun, 29 Nov 2026 09:01:00 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(read("Sun, 29 Nov 2026 08:59:00 GMT"), None);
        assert_eq!(read("soon"), None);
    }
}
