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
mod limits;
mod problem;
mod routes;
#[cfg(test)]
mod tests;
mod upstream;

use std::{sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use connection::Connection;
use exchange::{Exchange, Next};
use limits::Limits;
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
        let limits = Limits::of_process();
        let task = tokio::spawn(serve(listener, Arc::new(routes), limits, stop.clone()));
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

async fn serve(
    listener: TcpListener,
    routes: Arc<Routes>,
    limits: Limits,
    stop: CancellationToken,
) {
    // Dropped with this task, which aborts the connections.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept(), if connections.len() < limits.connections => match accepted {
                Ok((stream, address)) => {
                    let connection = Connection::new(stream);
                    let exchange = Exchange::new(Arc::clone(&routes), address.ip());
                    let stop = stop.clone();
                    connections.spawn(serve_connection(connection, exchange, limits, stop));
                    if connections.len() == limits.connections {
                        warn!("the proxy has {} connections; further ones wait", connections.len());
                    }
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
    mut exchange: Exchange,
    limits: Limits,
    stop: CancellationToken,
) {
    let mut wait = limits.head;
    loop {
        let has_request = tokio::select! {
            biased;
            () = stop.cancelled() => false,
            has_request = timeout(wait, client.has_data()) => matches!(has_request, Ok(Ok(true))),
        };
        if !has_request {
            return;
        }
        match exchange.serve(&mut client, limits.head).await {
            Ok(Next::Continue) => wait = limits.idle,
            Ok(Next::Close) => return client.close().await,
            Err(error) => return debug!("a client's connection ended: {error}"),
        }
    }
}
