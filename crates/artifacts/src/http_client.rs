//! The HTTP client below `object_store`: time limits, TLS by ring, typed rejections.
//!
//! `object_store`'s own client needs reqwest with its TLS features. This one is built from the
//! crates that export traces already, and limits each step: connecting, the wait for a response,
//! and each silence inside a body.

use std::{
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, Client, connect::HttpConnector as TcpConnector},
    rt::TokioExecutor,
};
use object_store::{
    ClientOptions,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
        HttpResponse, HttpResponseBody, HttpService,
    },
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio::time::{Sleep, sleep, timeout};

/// The longest time for a connection, without the TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest error response read.
const MAX_ERROR_BODY: usize = 64 * 1024;

/// Makes the client of an S3 storage.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    service: Service,
}

impl Connector {
    /// `limit` is for one request with its response's head, and for each silence in the
    /// response's body. `authorities` is a PEM file; without it, this machine's authorities count.
    ///
    /// # Errors
    /// If there are no certificate authorities.
    pub(crate) fn new(limit: Duration, authorities: Option<&Path>) -> Result<Self> {
        let mut tcp = TcpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT.min(limit)));
        let builder = HttpsConnectorBuilder::new();
        let builder = match authorities {
            Some(file) => builder.with_tls_config(trusting(file)?),
            None => builder.with_native_roots().context("this machine's CAs")?,
        };
        // `http:` is checked before; a machine's role is read from an address without TLS.
        let tls = builder.https_or_http().enable_http1().wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(20))
            .build(tls);
        Ok(Self { service: Service { client, limit } })
    }
}

/// TLS that trusts the authorities in a PEM file, and no others.
fn trusting(file: &Path) -> Result<ClientConfig> {
    let pem = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        roots.add(certificate.with_context(|| format!("{}", file.display()))?)?;
    }
    ensure!(!roots.is_empty(), "{} has no certificate", file.display());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(tls.with_root_certificates(roots).with_no_client_auth())
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.service.clone()))
    }
}

#[derive(Debug, Clone)]
struct Service {
    client: Client<HttpsConnector<TcpConnector>, HttpRequestBody>,
    limit: Duration,
}

impl HttpService for Service {
    // The signature that async-trait gives to the trait's method.
    fn call<'life0, 'async_trait>(
        &'life0 self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(self.send(request))
    }
}

impl Service {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let limit = self.limit;
        let timed_out = |_| HttpError::new(HttpErrorKind::Timeout, Silent(limit));
        let response = timeout(limit, self.client.request(request)).await;
        let (parts, body) = response.map_err(timed_out)?.map_err(not_answered)?.into_parts();
        if parts.status.is_success() || parts.status.is_redirection() {
            let body = ImpatientBody { body, limit, silence: None };
            return Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)));
        }
        let text = timeout(limit, Limited::new(body, MAX_ERROR_BODY).collect()).await;
        // The status counts without its explanation, too.
        let text = text.map_err(timed_out)?.map(|text| text.to_bytes()).unwrap_or_default();
        let rejected = Rejected::new(parts.status, &String::from_utf8_lossy(&text));
        match rejected.kind() {
            Some(kind) => Err(HttpError::new(kind, rejected)),
            None => Ok(HttpResponse::from_parts(parts, text.into())),
        }
    }
}

/// A lost connection may have delivered its request: only idempotent requests are repeated.
fn not_answered(error: legacy::Error) -> HttpError {
    let kind = if error.is_connect() { HttpErrorKind::Connect } else { HttpErrorKind::Interrupted };
    HttpError::new(kind, error)
}

/// A body that fails after a silence of `limit`. Time between two polls does not count, so that a
/// slow reader of the body is no silence.
struct ImpatientBody<B> {
    body: B,
    limit: Duration,
    /// Runs while the body has nothing to read.
    silence: Option<Pin<Box<Sleep>>>,
}

impl<B> Body for ImpatientBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.silence = None;
            let interrupted = |error| HttpError::new(HttpErrorKind::Interrupted, error);
            return Poll::Ready(frame.map(|frame| frame.map_err(interrupted)));
        }
        let limit = self.limit;
        let silence = self.silence.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(silence.as_mut().poll(context));
        self.silence = None;
        Poll::Ready(Some(Err(HttpError::new(HttpErrorKind::Timeout, Silent(limit)))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("no answer for {0:?}")]
struct Silent(Duration);

/// A response that says more than its status, or whose status `object_store` mistakes.
#[derive(Debug, thiserror::Error)]
#[error("{status}: {code} {message}")]
pub(crate) struct Rejected {
    status: StatusCode,
    /// S3's `<Code>`; empty if the response has none.
    code: String,
    message: String,
}

impl Rejected {
    fn new(status: StatusCode, body: &str) -> Self {
        let element = |name: &str| {
            let (_, rest) = body.split_once(&format!("<{name}>"))?;
            let (text, _) = rest.split_once('<')?;
            Some(text.chars().take(256).collect::<String>())
        };
        let (code, message) = (element("Code"), element("Message"));
        Self { status, code: code.unwrap_or_default(), message: message.unwrap_or_default() }
    }

    /// No room: HTTP's own status, or the codes of MinIO, Ceph and others.
    pub(crate) fn is_full(&self) -> bool {
        let codes = ["QuotaExceeded", "StorageFull", "InsufficientStorage", "NoSpace"];
        self.status == StatusCode::INSUFFICIENT_STORAGE
            || codes.iter().any(|code| self.code.contains(code))
    }

    pub(crate) fn is_transient(&self) -> bool {
        self.status.is_server_error()
            || matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
    }

    /// How `object_store` continues; `None` if it is told the response itself.
    fn kind(&self) -> Option<HttpErrorKind> {
        if self.is_full() || self.code == "NoSuchBucket" {
            // Not tried again.
            Some(HttpErrorKind::Unknown)
        } else if self.is_transient() {
            Some(HttpErrorKind::Request)
        } else {
            None
        }
    }
}
