//! Receives webhooks.

use std::{
    collections::HashSet,
    path::Path,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result, anyhow};
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use client::{
    Event,
    webhook::{Verifier, WebhookError},
};
use tokio::net::TcpListener;

use crate::journal::Journal;

/// The events that arrived, each once. A larger system has a table with a unique id.
#[derive(Debug)]
struct Inbox {
    journal: Journal,
    ids: HashSet<String>,
}

impl Inbox {
    /// Keeps the event, unless it was delivered before.
    fn keep(&mut self, event: &Event) -> Result<()> {
        if !self.ids.contains(&event.id) {
            self.journal.append(event)?;
            self.ids.insert(event.id.clone());
            println!("{} {}", event.r#type, event.account_id);
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Receiver {
    verifier: Verifier,
    inbox: Mutex<Inbox>,
}

/// Receives the webhooks of an endpoint at `http://{address}`. Passbook itself sends to `https`
/// only: put a proxy with TLS before it.
pub(crate) async fn run(keys: &str, address: &str, inbox: &Path) -> Result<ExitCode> {
    let mut keys = keys.split_whitespace();
    let first = Verifier::new(keys.next().unwrap_or_default());
    let verifier = keys.try_fold(first?, Verifier::or)?;
    let (journal, events) = Journal::open::<Event>(inbox)?;
    let ids = events.into_iter().map(|event| event.id).collect();
    let inbox = Mutex::new(Inbox { journal, ids });
    let receiver = Arc::new(Receiver { verifier, inbox });
    let listener = TcpListener::bind(address).await.with_context(|| address.to_owned())?;
    println!("receiving at http://{}", listener.local_addr()?);
    let routes = Router::new().route("/", post(receive)).with_state(receiver);
    axum::serve(listener, routes).await?;
    Ok(ExitCode::SUCCESS)
}

async fn receive(
    State(receiver): State<Arc<Receiver>>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    // The signature is over the bytes as they arrived.
    let event = match receiver.verifier.event(&headers, &body) {
        Ok(event) => event,
        Err(error) => {
            eprintln!("refused: {error}");
            return match error {
                WebhookError::Forged(_) => StatusCode::BAD_REQUEST,
                // Passbook sends it again, perhaps to a newer release of this program.
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
        }
    };
    // Success is answered after the event is on disk: Passbook repeats what was not taken.
    let kept = tokio::task::spawn_blocking(move || {
        receiver.inbox.lock().unwrap_or_else(PoisonError::into_inner).keep(&event)
    });
    match kept.await.map_err(|error| anyhow!(error)).flatten() {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(error) => {
            eprintln!("an event was not stored: {error:#}");
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}
