//! Sends requests.

use std::{fmt, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Response, Uri,
    header::{AUTHORIZATION, USER_AGENT},
    uri::{Authority, Scheme},
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::{Answer, Cause, Error, Request, Retry, transport::Transport};

/// Longer than the longest wait of the service, 30 s.
const TIMEOUT: Duration = Duration::from_secs(40);
/// Longer than any page or batch.
const LONGEST_ANSWER: usize = 16 << 20;
const NAME: HeaderValue =
    HeaderValue::from_static(concat!("passbook-client/", env!("CARGO_PKG_VERSION")));

/// A client of one API with one token. Clones share their connections. `Debug` does not show the
/// token.
#[derive(Clone)]
pub struct Client {
    transport: Transport,
    scheme: Scheme,
    authority: Authority,
    /// Before each path; without a slash at its end.
    prefix: String,
    authorization: Option<HeaderValue>,
    timeout: Duration,
    retry: Retry,
    longest_answer: usize,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, authority, prefix, .. } = self;
        write!(f, "Client({scheme}://{authority}{prefix})")
    }
}

/// The settings of a client.
#[derive(Clone)]
pub struct Builder<'a> {
    url: &'a str,
    token: &'a str,
    authorities: Option<&'a [u8]>,
    timeout: Duration,
    retry: Retry,
    longest_answer: usize,
}

impl fmt::Debug for Builder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, timeout, retry, .. } = self;
        let mut shown = f.debug_struct("Builder");
        shown.field("url", url).field("timeout", timeout).field("retry", retry);
        shown.finish_non_exhaustive()
    }
}

impl<'a> Builder<'a> {
    /// The certificate authorities to trust, as PEM. By default those of the machine.
    #[must_use]
    pub const fn certificate_authorities(self, pem: &'a [u8]) -> Self {
        Self { authorities: Some(pem), ..self }
    }

    /// The time limit of one try, the answer included. By default 40 s. It must be longer than the
    /// waits that are asked for.
    #[must_use]
    pub const fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// How long requests are tried. By default two minutes.
    #[must_use]
    pub const fn retry(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }

    /// The longest body of an answer, in bytes. By default 16 MiB.
    #[must_use]
    pub const fn longest_answer(self, bytes: usize) -> Self {
        Self { longest_answer: bytes, ..self }
    }

    /// Makes the client. It connects with its first request.
    ///
    /// # Errors
    /// [`Cause::InvalidRequest`]: the URL or the token has an invalid form, or TLS has no
    /// certificate authorities.
    pub fn build(self) -> Result<Client, Error> {
        let Self { url, token, authorities, timeout, retry, longest_answer } = self;
        let form = "the URL of the API must have the form https://host:port/path";
        let invalid = |reason: &str| Error::invalid_request(reason);
        let uri: Uri = url.parse().map_err(|_| invalid(form))?;
        let transport = Transport::new(&uri, authorities)?;
        let parts = uri.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            return Err(invalid(form));
        };
        let prefix = parts.path_and_query.map_or_else(String::new, |path| path.to_string());
        let is_http = scheme == Scheme::HTTP || scheme == Scheme::HTTPS;
        let port = authority.port().map_or_else(String::new, |port| format!(":{port}"));
        // No user, and no port that is no number.
        let is_plain = authority == *format!("{}{port}", authority.host());
        if !is_http || !is_plain || prefix.contains('?') {
            return Err(invalid(form));
        }
        let prefix = prefix.trim_end_matches('/').to_owned();
        let authorization = (!token.is_empty()).then(|| format!("Bearer {token}"));
        let authorization = authorization.map(HeaderValue::try_from).transpose();
        let mut authorization =
            authorization.map_err(|_| invalid("the token has invalid characters"))?;
        if let Some(authorization) = &mut authorization {
            authorization.set_sensitive(true);
        }
        Ok(Client {
            transport,
            scheme,
            authority,
            prefix,
            authorization,
            timeout,
            retry,
            longest_answer,
        })
    }
}

impl Client {
    /// A client of the API at `url`, such as `https://passbook.example.com`, with a bearer token or
    /// an API key. An empty token is not sent: some operations need none.
    ///
    /// # Errors
    /// As [`Builder::build`].
    pub fn new(url: &str, token: &str) -> Result<Self, Error> {
        Self::builder(url, token).build()
    }

    /// A client with other settings.
    #[must_use]
    pub fn builder<'a>(url: &'a str, token: &'a str) -> Builder<'a> {
        let (timeout, retry) = (TIMEOUT, Retry::default());
        let longest_answer = LONGEST_ANSWER;
        Builder { url, token, authorities: None, timeout, retry, longest_answer }
    }

    /// The time limit of one try.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(crate) const fn retry(&self) -> Retry {
        self.retry
    }

    /// Sends a request and gives its JSON. It is tried again as [`Retry`] says, so a request that
    /// creates something needs an idempotency key.
    ///
    /// # Errors
    /// Of the last try.
    pub async fn call<T: DeserializeOwned>(&self, request: &Request) -> Result<T, Error> {
        Ok(self.try_again(request, Answer::json).await?.0)
    }

    /// As [`Client::call`], with another use of the answer. Its errors count as those of the try.
    /// With the result is whether an earlier try had an unknown outcome.
    pub(crate) async fn try_again<T>(
        &self,
        request: &Request,
        read: impl Fn(&Answer) -> Result<T, Error>,
    ) -> Result<(T, bool), Error> {
        let attempt = async || {
            let answer = self.send(request).await?.success();
            answer.and_then(|answer| read(&answer)).map_err(|error| mark(request, error))
        };
        self.retry.run(attempt).await
    }

    /// Sends a request once, and gives the answer, whatever its status.
    ///
    /// # Errors
    /// There is no complete answer.
    pub async fn send(&self, request: &Request) -> Result<Answer, Error> {
        let exchange = async {
            let (head, body) = self.start(request).await?.into_parts();
            let body = Limited::new(body, self.longest_answer).collect().await;
            let body = body.map_err(|error| Error::new(Cause::NoAnswer(error)))?.to_bytes();
            Ok(Answer { status: head.status, headers: head.headers, body })
        };
        let answer = timeout(self.timeout, exchange).await;
        let answer = answer.unwrap_or_else(|_| Err(Error::new(Cause::Timeout(self.timeout))));
        answer.map_err(|error| mark(request, error))
    }

    /// Sends a request once, and gives the answer while its body arrives. Only the time until then
    /// is limited.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn open(&self, request: &Request) -> Result<Response<Incoming>, Error> {
        let answer = timeout(self.timeout, self.start(request)).await;
        let answer = answer.unwrap_or_else(|_| Err(Error::new(Cause::Timeout(self.timeout))));
        answer.map_err(|error| mark(request, error))
    }

    async fn start(&self, request: &Request) -> Result<Response<Incoming>, Error> {
        let invalid = |error: http::Error| Error::invalid_request(error.to_string());
        let uri = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(format!("{}{}", self.prefix, request.path))
            .build()
            .map_err(invalid)?;
        let mut sent = http::Request::builder()
            .method(request.method.clone())
            .uri(uri)
            .body(Full::<Bytes>::new(request.body.clone()))
            .map_err(invalid)?;
        let headers = sent.headers_mut();
        headers.clone_from(&request.headers);
        if let Some(authorization) = &self.authorization {
            headers.entry(AUTHORIZATION).or_insert_with(|| authorization.clone());
        }
        headers.entry(USER_AGENT).or_insert(NAME);
        self.transport.send(sent).await
    }
}

/// Only a request that changes something can have an unknown outcome.
pub(crate) fn mark(request: &Request, error: Error) -> Error {
    let unknown = !request.method.is_safe() && error.leaves_outcome_open();
    error.mark_unknown(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_and_its_builder_do_not_show_the_token() {
        let builder = Client::builder("http://127.0.0.1:1/bank/", "secret");
        let client = builder.clone().build().unwrap();
        assert_eq!(format!("{client:?}"), "Client(http://127.0.0.1:1/bank)");
        assert!(!format!("{builder:?} {client:#?} {:?}", client.authorization).contains("secret"));
    }

    #[test]
    fn an_invalid_url_or_token_is_refused() {
        for url in [
            "",
            "127.0.0.1:80",
            "/v1",
            "ftp://a",
            "http://a?b",
            "http://a@b",
            "http://",
            "http://a:b",
            "http://a:",
            "http://a:99999",
        ] {
            let error = Client::new(url, "t").unwrap_err();
            assert!(matches!(error.cause(), Cause::InvalidRequest(_)), "{url}: {error}");
        }
        assert!(Client::new("http://a", "line\nbreak").is_err());
        assert!(Client::builder("https://a", "t").certificate_authorities(b"x").build().is_err());
        assert!(Client::new("http://[::1]:80", "t").is_ok());
    }

    #[tokio::test]
    async fn a_refused_connection_may_be_tried_again_and_had_no_effect() {
        let retry = Retry { patience: Duration::from_millis(300) };
        let client = Client::builder("http://127.0.0.1:1", "t").retry(retry).build().unwrap();
        let request = Request::post("/v1/accounts", &()).unwrap();
        let error = client.call::<()>(&request).await.unwrap_err();
        assert!(error.may_retry() && !error.outcome_is_unknown(), "{error}");
    }
}
