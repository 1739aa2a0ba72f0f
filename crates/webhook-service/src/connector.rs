//! Connects to the receivers of webhooks: resolves a name once, checks its addresses, and connects
//! to one that was checked.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::http::Uri;
use futures::{FutureExt, future::BoxFuture};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tower_service::Service;

use crate::address::AddressGuard;

/// Time limit for the resolution of a name.
const RESOLVE_LIMIT: Duration = Duration::from_secs(5);
/// Time limit for a connection to one address.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Maximum addresses of a name that are tried.
const MAX_ADDRESSES: usize = 3;

/// Why there is no connection. The text is for the owner of the endpoint: it tells nothing about
/// this network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    #[error("the URL has no host")]
    NoHost,
    /// Also of a name that does not exist: otherwise an owner learns which internal names do.
    #[error("the host has no public address")]
    NoAddress,
    #[error("no connection")]
    NoConnection,
}

/// Opens TCP connections to permitted addresses.
#[derive(Debug, Clone)]
pub struct GuardedConnector {
    guard: Arc<AddressGuard>,
}

impl GuardedConnector {
    /// Connects to what the guard permits.
    #[must_use]
    pub fn new(guard: AddressGuard) -> Self {
        Self { guard: Arc::new(guard) }
    }
}

impl Service<Uri> for GuardedConnector {
    type Response = TokioIo<TcpStream>;
    type Error = ConnectError;
    type Future = BoxFuture<'static, Result<Self::Response, ConnectError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let guard = Arc::clone(&self.guard);
        async move { connect(&guard, &uri).await.map(TokioIo::new) }.boxed()
    }
}

async fn connect(guard: &AddressGuard, uri: &Uri) -> Result<TcpStream, ConnectError> {
    let host = uri.host().ok_or(ConnectError::NoHost)?;
    let is_plain = uri.scheme_str() == Some("http");
    let port = uri.port_u16().unwrap_or(if is_plain { 80 } else { 443 });
    let addresses = resolve(host, port).await?;
    let permitted: Vec<_> =
        addresses.into_iter().filter(|address| guard.permits(address.ip())).collect();
    if permitted.is_empty() {
        return Err(ConnectError::NoAddress);
    }
    for address in permitted.into_iter().take(MAX_ADDRESSES) {
        if let Ok(Ok(stream)) = timeout(CONNECT_LIMIT, TcpStream::connect(address)).await {
            // Without it, a body can wait for the acknowledgement of the head.
            let _ = stream.set_nodelay(true);
            return Ok(stream);
        }
    }
    Err(ConnectError::NoConnection)
}

/// The addresses of a host. The resolver reads other spellings of addresses, such as
/// `0x7f.1`: they are checked as what it makes of them.
async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, ConnectError> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let found = timeout(RESOLVE_LIMIT, lookup_host((bare, port))).await;
    let found = found.map_err(|_| ConnectError::NoAddress)?;
    Ok(found.map_err(|_| ConnectError::NoAddress)?.collect())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn connected(guard: &AddressGuard, url: &str) -> Result<(), ConnectError> {
        connect(guard, &url.parse().unwrap()).await.map(drop)
    }

    #[tokio::test]
    async fn every_spelling_of_a_local_address_is_refused_like_a_name_that_does_not_exist() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let guard = AddressGuard::default();
        for host in [
            "127.0.0.1",
            "localhost",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "0177.0.0.1",
            "127.1",
            "0",
            "no-such-name.invalid",
        ] {
            let result = connected(&guard, &format!("http://{host}:{port}/")).await;
            assert_eq!(result, Err(ConnectError::NoAddress), "{host}");
        }
        let allowed = AddressGuard { allowed: vec!["127.0.0.0/8".parse().unwrap()] };
        connected(&allowed, &format!("http://localhost:{port}/")).await.unwrap();
        let closed = connected(&allowed, "http://127.0.0.1:1/").await;
        assert_eq!(closed, Err(ConnectError::NoConnection));
    }
}
