//! Connections to the API: hyper with TLS by rustls.

use std::{fmt::Display, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Response, Uri, uri::Authority};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, pem::PemObject},
};

use crate::{Cause, Error};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Shorter than the idle time that servers and proxies grant.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// The server of a request that was not sent.
#[derive(Debug, thiserror::Error)]
#[error("connecting to {authority}")]
struct NotConnected {
    authority: Authority,
    source: legacy::Error,
}

/// A pool of connections.
#[derive(Debug, Clone)]
pub(crate) struct Transport {
    pool: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Transport {
    /// `base` is `http` or `https`. With TLS, the certificate authorities in `pem` count or,
    /// without them, those of the machine.
    pub(crate) fn new(base: &Uri, pem: Option<&[u8]>) -> Result<Self, Error> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let is_tls = base.scheme_str() == Some("https");
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::invalid_request(error.to_string()))?;
        let config = match pem {
            Some(pem) => config.with_root_certificates(authorities(pem)?),
            None if is_tls => config.with_native_roots().map_err(no_authorities)?,
            // Reading the authorities takes time, and nothing would use them.
            None => config.with_root_certificates(RootCertStore::empty()),
        };
        let tls = HttpsConnectorBuilder::new().with_tls_config(config.with_no_client_auth());
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
        let authority = request.uri().authority().cloned();
        self.pool.request(request).await.map_err(|source| {
            Error::new(match authority.filter(|_| source.is_connect()) {
                Some(authority) => Cause::Unreachable(NotConnected { authority, source }.into()),
                None => Cause::NoAnswer(source.into()),
            })
        })
    }
}

fn no_authorities(error: impl Display) -> Error {
    Error::invalid_request(format!("no certificate authorities: {error}"))
}

fn authorities(pem: &[u8]) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate.map_err(no_authorities)?).map_err(no_authorities)?;
    }
    if roots.is_empty() { Err(no_authorities("there is no certificate in PEM")) } else { Ok(roots) }
}
