//! The proxy: one HTTP address in front of the replicas of all services, like
//! an Ingress and its Services in Kubernetes. It picks the service by the path
//! and forwards requests to the service's ready replicas in turn.
//!
//! A request goes to a second replica only if nothing of it was sent. The proxy
//! never repeats a request that a replica may have received. The client repeats
//! it, with the same idempotency key.
//!
//! Written by hand on `httparse`: it parses the heads of messages, and copies
//! bodies in the form in which they arrive. A server and a client of hyper took
//! several times the processor time, on the processors of the measured system.

pub mod body;
mod connection;
mod exchange;
pub mod head;
mod problem;
mod routes;
#[cfg(test)]
mod tests;
mod upstream;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use connection::Connection;
use exchange::{Exchange, Next};
pub(crate) use routes::Pool;
use routes::Routes;
pub(crate) use upstream::Upstream;

/// How long open connections may continue after the proxy is stopped.
const GRACE_PERIOD: Duration = Duration::from_secs(1);
/// Pause after a failed accept, for example without free file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A running proxy.
#[derive(Debug)]
pub(crate) struct Proxy {
    stop: CancellationToken,
    task: JoinHandle<()>,
    /// The readiness checks. Aborted on drop.
    _readiness: JoinSet<()>,
}

impl Proxy {
    /// Serves on `listener` until it is stopped. Replicas count as ready until
    /// the first check.
    pub(crate) fn start(listener: TcpListener, pools: Vec<Pool>) -> Self {
        let routes = Routes::new(pools);
        let mut readiness = JoinSet::new();
        for upstream in routes.upstreams() {
            readiness.spawn(Arc::clone(upstream).watch_readiness());
        }
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(listener, Arc::new(routes), stop.clone()));
        Self { stop, task, _readiness: readiness }
    }

    /// Accepts no more connections, and closes the open ones after the grace
    /// period.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        match timeout(GRACE_PERIOD, &mut self.task).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => error!("the proxy failed: {error}"),
            Err(_) => self.task.abort(),
        }
    }
}

async fn serve(listener: TcpListener, routes: Arc<Routes>, stop: CancellationToken) {
    // Dropped with this task, which aborts the connections.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => {
                    let connection = Connection::new(stream);
                    let (routes, stop) = (Arc::clone(&routes), stop.clone());
                    connections.spawn(serve_connection(connection, address, routes, stop));
                }
                Err(error) => {
                    warn!("the proxy could not accept a connection: {error}");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(ended) = connections.join_next() => report_panic(ended),
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        report_panic(ended);
    }
}

fn report_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        error!("a connection of the proxy failed: {error}");
    }
}

/// Serves the requests of a connection, one after the other.
async fn serve_connection(
    mut client: Connection,
    address: SocketAddr,
    routes: Arc<Routes>,
    stop: CancellationToken,
) {
    let mut exchange = Exchange::new(routes, address.ip());
    loop {
        let has_request = tokio::select! {
            biased;
            () = stop.cancelled() => false,
            has_request = client.has_data() => matches!(has_request, Ok(true)),
        };
        if !has_request {
            return;
        }
        match exchange.serve(&mut client).await {
            Ok(Next::Continue) => {}
            Ok(Next::Close) => return client.close().await,
            Err(error) => return debug!("a connection of {address} ended: {error}"),
        }
    }
}
