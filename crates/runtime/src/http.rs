//! Serving HTTP: a strict JSON body, problem+json for what no route takes, and
//! a stop that fails no request.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{FromRequest, Request},
    http::{HeaderValue, Method, Uri, Version, header},
    response::{IntoResponse, Response},
};
use futures::StreamExt;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use serde::de::{DeserializeOwned, IgnoredAny};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;

use crate::problem::{
    BODY_TOO_LARGE, BODY_TOO_SLOW, DUPLICATE_FIELD, INTERNAL, INVALID_FIELD, MALFORMED_JSON,
    METHOD_NOT_ALLOWED, NO_SUCH_PATH, Problem, UNSUPPORTED_MEDIA_TYPE,
};

/// The body of a single thing needs no more.
const MAX_BODY_BYTES: usize = 16 * 1024;
/// What is read of a larger one before the connection is given up.
const MAX_DISCARDED_BYTES: usize = 8 * 1024 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may take to send a request's head, idle time included.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// Open connections at most; more wait in the kernel's queue.
const MOST_CONNECTIONS: usize = 20_000;

/// A JSON object, read strictly: right content type, at most so many bytes (16
/// KiB if nothing else is said), no duplicate field; what is wrong is answered
/// with its field's name.
#[derive(Debug)]
pub struct JsonBody<T, const MOST: usize = MAX_BODY_BYTES>(pub T);

impl<S: Send + Sync, T: DeserializeOwned, const MOST: usize> FromRequest<S> for JsonBody<T, MOST> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let media_type =
            request.headers().get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
        let essence = media_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            return Err(
                UNSUPPORTED_MEDIA_TYPE.because("Send the header Content-Type: application/json.")
            );
        }
        let body = match tokio::time::timeout(BODY_TIMEOUT, read(request.into_body(), MOST)).await {
            Ok(read) => read?,
            Err(_) => return Err(BODY_TOO_SLOW.because("Send the body within 10 seconds.")),
        };
        parse(&body).map(Self)
    }
}

/// Reads a body. One that is too large is still read for a while, and thrown
/// away: a client that is cut off in the middle of sending would not see the
/// answer.
async fn read(body: Body, most: usize) -> Result<Vec<u8>, Problem> {
    let mut chunks = body.into_data_stream();
    let mut bytes = Vec::new();
    let mut length = 0;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| {
            MALFORMED_JSON.because(format!("The body could not be read: {error}."))
        })?;
        length += chunk.len();
        if length <= most {
            bytes.extend_from_slice(&chunk);
        } else if length > MAX_DISCARDED_BYTES {
            break;
        }
    }
    if length > most {
        return Err(BODY_TOO_LARGE.because(format!("A body has at most {most} bytes here.")));
    }
    Ok(bytes)
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // A derived struct would also take an array of its fields by position.
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(match serde_json::from_slice::<IgnoredAny>(bytes) {
            Ok(_) => INVALID_FIELD.because("The body must be a JSON object."),
            Err(error) => MALFORMED_JSON.because(format!("{error}.")),
        });
    }
    // Where in the body something stands is of interest for an error only, and takes time.
    if let Ok(body) = serde_json::from_slice(bytes) {
        return Ok(body);
    }
    let json = &mut serde_json::Deserializer::from_slice(bytes);
    let parsed: Result<T, _> = serde_path_to_error::deserialize(&mut *json);
    match parsed {
        Ok(body) => match json.end() {
            Ok(()) => Ok(body),
            Err(error) => Err(MALFORMED_JSON.because(format!("{error}."))),
        },
        Err(error) if error.inner().is_data() => Err(data_problem(&error)),
        Err(error) => Err(MALFORMED_JSON.because(format!("{}.", error.inner()))),
    }
}

fn data_problem(error: &serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let text = error.inner().to_string();
    // Errors about a field's name stand at its parent: the name is in the text.
    let named = ["missing field `", "unknown field `", "duplicate field `"]
        .iter()
        .find_map(|start| text.strip_prefix(start)?.split('`').next());
    let sort = if text.starts_with("duplicate") { DUPLICATE_FIELD } else { INVALID_FIELD };
    let field = named.map_or_else(|| error.path().to_string(), str::to_owned);
    let problem = sort.because(format!("{text}."));
    if field == "." { problem } else { problem.at(field) }
}

/// Adds what every route has: problem+json for unknown paths and methods and
/// for panics.
pub fn with_defaults<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    router
        .fallback(|uri: Uri| async move {
            NO_SUCH_PATH.because(format!("{} is not served here.", uri.path()))
        })
        .method_not_allowed_fallback(|method: Method, uri: Uri| async move {
            METHOD_NOT_ALLOWED.because(format!("{} does not take {method}.", uri.path()))
        })
        .layer(CatchPanicLayer::custom(|_| {
            INTERNAL.because("This is a bug; it was logged.").into_response()
        }))
}

/// Asks the client to close its connection after this answer, if that is what
/// keeps it alive: while draining, clients with open connections should move
/// on before the listener closes.
pub fn ask_to_close(version: Version, response: &mut Response) {
    if version <= Version::HTTP_11 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// Serves until `draining` is cancelled and `drain_delay` has passed, then
/// closes the listener and lets running requests finish, for at most `grace`.
/// Gives what is left of `grace`.
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
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let drained = async {
        draining.cancelled().await;
        tokio::time::sleep(drain_delay).await;
    };
    tokio::pin!(drained);
    loop {
        let (socket, place) = tokio::select! {
            () = &mut drained => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let service = TowerToHyperService::new(router.clone());
        let connection = server.serve_connection(TokioIo::new(socket), service).into_owned();
        let connection = connections.watch(connection);
        // Owned by `connections`, which waits for its end.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(place);
        });
    }
    drop(listener);
    let closed = Instant::now();
    tokio::time::timeout(grace, connections.shutdown())
        .await
        .map_err(|_| anyhow::anyhow!("requests still ran {grace:?} after the listener closed"))?;
    Ok(grace.saturating_sub(closed.elapsed()))
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, OwnedSemaphorePermit) {
    loop {
        let Ok(place) = Arc::clone(places).acquire_owned().await else { continue };
        match listener.accept().await {
            Ok((socket, _)) => {
                if let Err(error) = socket.set_nodelay(true) {
                    tracing::debug!(%error, "TCP_NODELAY");
                }
                return (socket, place);
            }
            Err(error) => {
                // Out of file descriptors, or a client that left: it passes.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Movement {
        amount: String,
    }

    async fn refused(body: &[u8]) -> serde_json::Value {
        let problem = parse::<Movement>(body).unwrap_err();
        let body = to_bytes(problem.into_response().into_body(), 4096).await.unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_body_is_said_by_type_and_field() {
        let deep = format!("{{\"amount\":{}{}}}", "[".repeat(64), "]".repeat(64));
        let very_deep = format!("{{\"x\":{}{}}}", "[".repeat(500), "]".repeat(500));
        for (body, slug, field) in [
            ("", "malformed-json", None),
            ("{", "malformed-json", None),
            ("{\"amount\":\"1\"} x", "malformed-json", None),
            ("{\"amount\":\"\\ud800\"}", "malformed-json", None),
            ("{\"amount\":\"1\",\"amount\":\"2\"}", "duplicate-field", Some("amount")),
            ("{\"amount\":1}", "invalid-field", Some("amount")),
            ("{\"amount\":null}", "invalid-field", Some("amount")),
            ("{}", "invalid-field", Some("amount")),
            ("{\"amount\":\"1\",\"amuont\":\"2\"}", "invalid-field", Some("amuont")),
            ("[\"1\"]", "invalid-field", None),
            ("\"1\"", "invalid-field", None),
            (&deep, "invalid-field", Some("amount")),
            (&very_deep, "invalid-field", Some("x")),
        ] {
            let problem = refused(body.as_bytes()).await;
            assert_eq!(problem["type"], format!("/problems/{slug}"), "{body}");
            assert_eq!(problem["field"].as_str(), field, "{body}");
        }
        assert_eq!(refused(b"{\"amount\":\"\xff\"}").await["type"], "/problems/malformed-json");
    }

    #[tokio::test]
    async fn a_long_body_is_told_from_a_broken_one() {
        let long = Request::post("/")
            .header("content-type", "application/json")
            .body(Body::from("x".repeat(MAX_BODY_BYTES + 1)))
            .unwrap();
        let problem = JsonBody::<Movement>::from_request(long, &()).await.unwrap_err();
        assert_eq!(problem.into_response().status(), 413);
    }
}
