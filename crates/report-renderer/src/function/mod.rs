//! The HTTP function: `POST /` renders the document of a [`RenderRequest`], `GET /livez`
//! answers while the process runs.
//!
//! A rendering needs a permit, taken before the body is read, so that waiting requests
//! take no memory. A request without a permit is rejected: the report-service tries
//! again, and a serverless platform starts another instance.
//!
//! A rendering is on a thread of its own and writes to a temporary file. It stops when
//! its client disconnects, at its time limit, and when the process has to end.
//!
//! [`RenderRequest`]: report_document::RenderRequest

mod config;
mod input;
mod output;
mod problems;
mod rendering;
mod token;

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use artifacts::ArtifactStore;
use axum::{
    Router,
    extract::{FromRequest, Request, State},
    http::HeaderMap,
    response::Response,
    routing::{get, post},
};
use report_document::RenderRequest;
use runtime::http::{json_body::JsonBody, listener::Listening, problem::Problem, server};
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::sync::CancellationToken;

pub use self::{config::Config, config::FunctionConfig, problems::NOT_RENDERABLE};
use self::{problems::BUSY, rendering::Limits, token::Token};

/// Maximum size of a request. A larger document is in the storage.
const MAX_REQUEST: usize = 16 * 1024 * 1024;
/// From the end of the grace period to the end of the process.
const ABORT: Duration = Duration::from_secs(5);

#[derive(Clone)]
struct Function(Arc<Parts>);

struct Parts {
    token: Option<Token>,
    storage: Option<ArtifactStore>,
    permits: Arc<Semaphore>,
    config: FunctionConfig,
    /// Cancelled when every rendering has to end.
    abort: CancellationToken,
}

/// Serves until `stop` is cancelled, then finishes the renderings in process.
///
/// # Errors
/// If the storage can't be opened, or a rendering did not end in time.
pub async fn run(
    config: Config,
    listening: Listening,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let storage = config.storage.as_ref().map(ArtifactStore::open).transpose()?;
    let grace = config.function.grace_period;
    let abort = CancellationToken::new();
    let function = Function(Arc::new(Parts {
        token: config.function.report_renderer_token.as_ref().map(Token::new),
        storage,
        permits: Arc::new(Semaphore::new(config.function.report_renderer_concurrency.into())),
        config: config.function,
        abort: abort.clone(),
    }));
    let router =
        Router::new().route("/", post(render)).route("/livez", get(|| async { "alive\n" }));
    let router = server::with_defaults(router).with_state(function);
    // Its only client is the report-service, or a platform in front of it.
    let (delay, limit) = (Duration::ZERO, grace + ABORT);
    let serving = server::serve(listening, None, router, stop.clone(), delay, limit);
    let aborting = async {
        stop.cancelled().await;
        tokio::time::sleep(grace).await;
        abort.cancel();
        std::future::pending().await
    };
    tokio::select! {
        served = serving => served.map(|_| ()).context("serving"),
        () = aborting => Ok(()),
    }
}

async fn render(
    State(Function(parts)): State<Function>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Problem> {
    if let Some(token) = &parts.token {
        token.check(&headers)?;
    }
    let Ok(permit) = Arc::clone(&parts.permits).try_acquire_owned() else {
        return Err(BUSY.because("The function renders other reports.").retry_after(5));
    };
    let began = Instant::now();
    let JsonBody(request) =
        JsonBody::<RenderRequest, MAX_REQUEST>::from_request(request, &()).await?;
    // Cancelled when the client disconnects, because this future is dropped then.
    let stop = parts.abort.child_token();
    let _stop_when_dropped = stop.clone().drop_guard();
    let limits = Limits { permit, stop, until: began + parts.config.report_renderer_timeout };
    let scratch = parts.config.scratch();
    let (report_id, attempt, format) = (request.report_id, request.attempt, request.format);
    let rendered = async {
        let document = input::document(&request, parts.storage.as_ref(), &scratch).await?;
        let file = rendering::file(format, document, &scratch, limits).await?;
        output::answer(&request, file, parts.storage.as_ref(), &parts.config).await
    };
    let (answer, duration_ms) = (rendered.await, began.elapsed().as_millis());
    match &answer {
        Ok(_) => tracing::info!(%report_id, attempt, %format, duration_ms, "rendered a report"),
        Err(problem) => tracing::warn!(%report_id, attempt, %format, duration_ms, ?problem,
            "a report was not rendered"),
    }
    answer
}
