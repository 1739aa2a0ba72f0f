//! Serves HTTP with a graceful stop: requests in process are finished.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    http::{Method, Uri},
    response::IntoResponse,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;

use super::{
    listener::{Listener, raise_and_limit},
    problem::{INTERNAL, METHOD_NOT_ALLOWED, NO_SUCH_PATH},
};

/// Time limit for the head of the next request on a connection, idle time included.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);

/// Adds problem+json for unknown paths, unknown methods and panics.
pub fn with_defaults<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    router
        .fallback(|uri: Uri| async move {
            NO_SUCH_PATH.because(format!("There is no resource at {}.", uri.path()))
        })
        .method_not_allowed_fallback(|method: Method, uri: Uri| async move {
            METHOD_NOT_ALLOWED.because(format!("{} does not support {method}.", uri.path()))
        })
        .layer(CatchPanicLayer::custom(|_| {
            INTERNAL.because("This is a bug; it was logged.").into_response()
        }))
}

/// Serves until `draining` is cancelled and `drain_delay` has passed. Then it
/// closes the listener and waits for running requests, for at most `grace`.
/// Returns the remaining part of `grace`.
///
/// # Errors
/// If requests still ran after `grace`.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    draining: CancellationToken,
    drain_delay: Duration,
    grace: Duration,
) -> anyhow::Result<Duration> {
    let mut server = Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    server.http2().timer(TokioTimer::new()).keep_alive_interval(Some(HEAD_TIMEOUT));
    let connections = GracefulShutdown::new();
    // More connections wait in the kernel's queue.
    let slots = Arc::new(Semaphore::new(raise_and_limit()));
    let mut listener = Listener::new(listener, "API");
    let drained = async {
        draining.cancelled().await;
        tokio::time::sleep(drain_delay).await;
    };
    tokio::pin!(drained);
    loop {
        let (socket, slot) = tokio::select! {
            () = &mut drained => break,
            accepted = accept(&mut listener, &slots) => accepted,
        };
        let service = TowerToHyperService::new(router.clone());
        let connection = server.serve_connection(TokioIo::new(socket), service).into_owned();
        let connection = connections.watch(connection);
        // `connections` awaits the end of this task.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(slot);
        });
    }
    drop(listener);
    let closed = Instant::now();
    tokio::time::timeout(grace, connections.shutdown())
        .await
        .map_err(|_| anyhow::anyhow!("requests still ran {grace:?} after the listener closed"))?;
    Ok(grace.saturating_sub(closed.elapsed()))
}

/// Waits for a free slot, then for the next connection.
async fn accept(
    listener: &mut Listener,
    slots: &Arc<Semaphore>,
) -> (TcpStream, OwnedSemaphorePermit) {
    loop {
        let Ok(slot) = Arc::clone(slots).acquire_owned().await else { continue };
        let (socket, _) = listener.next().await;
        return (socket, slot);
    }
}
