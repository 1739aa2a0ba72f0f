//! An HTTP client of the API: JSON requests, and bodies as streams.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full, Limited, combinators::UnsyncBoxBody};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_util::bytes::Bytes;

use super::error::ApiError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Limit for the head of a response, and for the next piece of a body. Events have a comment every
/// 15 seconds.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Limit for a JSON body.
const MAX_BODY: usize = 16 << 20;

/// A response's body.
pub(super) type Body = UnsyncBoxBody<Bytes, anyhow::Error>;

/// A client of one API with one token.
pub(super) struct Client {
    http: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    url: String,
    authorization: Option<HeaderValue>,
}

impl Client {
    /// A client of the API at `url`, without a slash at its end.
    ///
    /// # Errors
    /// When the token is no header value, or the certificates can't be read.
    pub(super) fn new(url: &Uri, token: Option<String>, ca: Option<&Path>) -> Result<Self> {
        let authorization = token.map(|token| HeaderValue::try_from(format!("Bearer {token}")));
        let mut authorization = authorization.transpose().ok().context("the token is malformed")?;
        if let Some(value) = &mut authorization {
            value.set_sensitive(true);
        }
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls(url, ca)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        Ok(Self {
            http: legacy::Client::builder(TokioExecutor::new()).build(connector),
            url: url.to_string().trim_end_matches('/').to_owned(),
            authorization,
        })
    }

    /// The address of a path of the API.
    pub(super) fn address(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        json(self.send(Method::GET, path, HeaderMap::new(), None).await?).await
    }

    /// Sends `body`, if there is one, with an Idempotency-Key, if there is one.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        key: Option<&str>,
        body: Option<&Value>,
    ) -> Result<T, ApiError> {
        let mut headers = HeaderMap::new();
        if let Some(key) = key {
            let value = HeaderValue::try_from(key).map_err(|_| ApiError::MalformedKey)?;
            headers.insert(HeaderName::from_static("idempotency-key"), value);
        }
        json(self.send(Method::POST, path, headers, body).await?).await
    }

    /// The successful response to a GET request, with its body as a stream.
    pub(super) async fn open(&self, path: &str) -> Result<Response<Body>, ApiError> {
        self.send(Method::GET, path, HeaderMap::new(), None).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Option<&Value>,
    ) -> Result<Response<Body>, ApiError> {
        let mut request = Request::builder().method(method).uri(self.address(path));
        if let Some(value) = &self.authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        for (name, value) in &headers {
            request = request.header(name, value);
        }
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let request = request.body(Full::new(body)).map_err(ApiError::unexpected)?;
        let response = tokio::time::timeout(IDLE_TIMEOUT, self.http.request(request)).await;
        let response = response.map_err(|_| ApiError::timed_out(&self.url, IDLE_TIMEOUT))?;
        let response = response.map_err(|error| ApiError::unreachable(&self.url, error))?;
        let response = response.map(|body| body.map_err(anyhow::Error::from).boxed_unsync());
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let problem = read(response.into_body()).await.unwrap_or_default();
        Err(ApiError::of_response(status, &problem))
    }
}

/// Trusts the certificate authority in the file or, without one, those of this machine.
fn tls(url: &Uri, ca: Option<&Path>) -> Result<ClientConfig> {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = match ca {
        Some(path) => builder.with_root_certificates(roots(path)?),
        None if url.scheme_str() == Some("https") => {
            builder.with_native_roots().context("the root certificates of this machine")?
        }
        None => builder.with_root_certificates(RootCertStore::empty()),
    };
    Ok(builder.with_no_client_auth())
}

fn roots(path: &Path) -> Result<RootCertStore> {
    let read = || -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&fs::read(path)?) {
            roots.add(certificate?)?;
        }
        anyhow::ensure!(!roots.is_empty(), "the file has no certificate");
        Ok(roots)
    };
    read().with_context(|| path.display().to_string())
}

async fn json<T: DeserializeOwned>(response: Response<Body>) -> Result<T, ApiError> {
    let bytes = read(response.into_body()).await.map_err(ApiError::interrupted)?;
    serde_json::from_slice(&bytes).map_err(ApiError::unexpected)
}

/// Reads a short body to its end.
async fn read(body: Body) -> Result<Bytes> {
    let collected = Limited::new(body, MAX_BODY).collect();
    let collected = tokio::time::timeout(IDLE_TIMEOUT, collected).await;
    let collected = collected.context("the response stopped in the middle")?;
    Ok(collected.map_err(|error| anyhow::anyhow!(error))?.to_bytes())
}

/// The next piece of a body; `None` at its end.
///
/// # Errors
/// When the connection is lost or silent for too long.
pub(super) async fn next_piece(body: &mut Body) -> Result<Option<Bytes>, ApiError> {
    loop {
        let frame = tokio::time::timeout(IDLE_TIMEOUT, body.frame()).await;
        let frame = frame.context("no more bytes arrive").map_err(ApiError::interrupted)?;
        let Some(frame) = frame.transpose().map_err(ApiError::interrupted)? else {
            return Ok(None);
        };
        if let Ok(bytes) = frame.into_data() {
            return Ok(Some(bytes));
        }
    }
}
