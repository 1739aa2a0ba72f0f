//! An HTTP client for receivers outside this system: it speaks HTTPS with the machine's
//! root certificates, and follows no redirect, because a redirect could lead a token to
//! another host.

use std::{fmt, time::Duration};

use anyhow::{Context, anyhow};
use axum::http::{
    HeaderValue, Request, Response, Uri,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
};
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio_util::bytes::Bytes;

use crate::setting::Secret;

pub use hyper::body::Incoming;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Parses a setting: an `http` or `https` URL with a host, without user and password.
///
/// # Errors
/// A sentence without the URL, because a URL can contain a secret.
pub fn parse_url(text: &str) -> Result<Uri, String> {
    const FORM: &str = "must be like https://host/path";
    let uri: Uri = text.parse().map_err(|_| FORM.to_owned())?;
    let host = uri.authority().filter(|authority| !authority.as_str().contains('@'));
    let valid = matches!(uri.scheme_str(), Some("http" | "https"))
        && host.is_some_and(|host| !host.host().is_empty());
    if valid { Ok(uri) } else { Err(FORM.to_owned()) }
}

/// Sends requests to one URL. Each has its own connection: such requests are rare.
/// `Debug` does not show the URL, because it can contain a secret.
#[derive(Clone)]
pub struct HttpClient {
    url: Uri,
    client: AnyClient,
}

#[derive(Clone)]
enum AnyClient {
    Plain(Client<HttpConnector, Full<Bytes>>),
    Tls(Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpClient")
    }
}

impl HttpClient {
    /// A client of a URL that [`parse_url`] accepts.
    ///
    /// # Errors
    /// If the scheme is `https` and the machine has no root certificates.
    pub fn new(url: Uri) -> anyhow::Result<Self> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_max_idle_per_host(0);
        let client = if url.scheme_str() == Some("https") {
            let connector = HttpsConnectorBuilder::new()
                .with_native_roots()
                .context("loading this machine's root certificates")?
                .https_only()
                .enable_http1()
                .wrap_connector(tcp);
            AnyClient::Tls(builder.build(connector))
        } else {
            AnyClient::Plain(builder.build(tcp))
        };
        Ok(Self { url, client })
    }

    /// Posts JSON and returns the response with its body unread. The caller sets a time
    /// limit.
    ///
    /// # Errors
    /// If no response arrived. The error does not show the URL.
    pub async fn post_json(
        &self,
        token: Option<&Secret>,
        headers: &[(&'static str, String)],
        body: Vec<u8>,
    ) -> anyhow::Result<Response<Incoming>> {
        let mut request = Request::post(self.url.clone()).header(CONTENT_TYPE, "application/json");
        if let Some(token) = token {
            let value = HeaderValue::from_str(&format!("Bearer {}", token.expose()));
            let mut value = value.map_err(|_| anyhow!("the token must be visible ASCII text"))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        self.send(request.body(Full::from(body)).context("making a request")?).await
    }

    /// Gets a document of this media type, and returns the response with its body unread. The
    /// caller sets a time limit.
    ///
    /// # Errors
    /// If no response arrived. The error does not show the URL.
    pub async fn get(&self, media_type: &'static str) -> anyhow::Result<Response<Incoming>> {
        let request = Request::get(self.url.clone()).header(ACCEPT, media_type);
        self.send(request.body(Full::default()).context("making a request")?).await
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> anyhow::Result<Response<Incoming>> {
        let response = match &self.client {
            AnyClient::Plain(client) => client.request(request).await,
            AnyClient::Tls(client) => client.request(request).await,
        };
        response.map_err(|error| {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            anyhow!(source.unwrap_or_else(|| error.to_string()))
        })
    }
}
