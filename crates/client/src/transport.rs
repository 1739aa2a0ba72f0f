//! Connections to the API: hyper with TLS by rustls.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{ClientConfig, RootCertStore, crypto::ring::default_provider};

use crate::{Cause, Error};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Shorter than the idle time that servers and proxies grant.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// A pool of connections.
#[derive(Debug, Clone)]
pub(crate) struct Transport {
    pool: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Transport {
    /// `base` is `http` or `https`. With TLS, the certificate authorities of the machine count.
    pub(crate) fn new(base: &Uri) -> Result<Self, Error> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let is_tls = base.scheme_str() == Some("https");
        let tls = HttpsConnectorBuilder::new();
        let tls = if is_tls {
            let roots = tls.with_provider_and_native_roots(default_provider());
            roots.map_err(|error| {
                Error::invalid_request(format!("no certificate authorities: {error}"))
            })?
        } else {
            // Reading the authorities takes time, and nothing would use them.
            let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(|error| Error::invalid_request(error.to_string()))?;
            let roots = RootCertStore::empty();
            tls.with_tls_config(config.with_root_certificates(roots).with_no_client_auth())
        };
        let tls = if is_tls { tls.https_only() } else { tls.https_or_http() };
        let pool = legacy::Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_timer(hyper_util::rt::TokioTimer::new())
            .build(tls.enable_http1().wrap_connector(tcp));
        Ok(Self { pool })
    }

    pub(crate) async fn send(
        &self,
        request: http::Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Error> {
        self.pool.request(request).await.map_err(|error| {
            let is_connect = error.is_connect();
            let error = Box::new(error);
            Error::new(if is_connect { Cause::Unreachable(error) } else { Cause::NoAnswer(error) })
        })
    }
}
