//! An issuer of tokens: serves its keys, and counts the requests for them.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::LOCATION},
    response::{IntoResponse, Response},
    routing::get,
};
use credentials::SigningKey;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// The answer to a request for the keys.
#[derive(Clone)]
pub(super) enum Answer {
    Body(String),
    Status(StatusCode),
    /// A redirect to `/elsewhere`, with these keys.
    Redirect(String),
    /// None.
    Silence,
}

struct Served {
    answer: Answer,
    requests: usize,
    followed: usize,
}

/// The issuer. It serves until the test ends.
pub(super) struct Issuer {
    pub(super) url: String,
    served: Arc<Mutex<Served>>,
}

impl Issuer {
    pub(super) async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let served = Arc::new(Mutex::new(Served { answer, requests: 0, followed: 0 }));
        let router = Router::new()
            .route("/keys", get(keys))
            .route("/elsewhere", get(elsewhere))
            .with_state(Arc::clone(&served));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, served }
    }

    /// Answers so from now on.
    pub(super) fn answer(&self, answer: Answer) {
        self.served.lock().unwrap().answer = answer;
    }

    /// The requests for the keys so far.
    pub(super) fn requests(&self) -> usize {
        self.served.lock().unwrap().requests
    }

    /// How often a redirect was followed.
    pub(super) fn followed(&self) -> usize {
        self.served.lock().unwrap().followed
    }
}

async fn keys(State(served): State<Arc<Mutex<Served>>>) -> Response {
    let answer = {
        let mut served = served.lock().unwrap();
        served.requests += 1;
        served.answer.clone()
    };
    match answer {
        Answer::Body(body) => body.into_response(),
        Answer::Status(status) => status.into_response(),
        Answer::Redirect(_) => (StatusCode::FOUND, [(LOCATION, "/elsewhere")]).into_response(),
        Answer::Silence => {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            StatusCode::OK.into_response()
        }
    }
}

async fn elsewhere(State(served): State<Arc<Mutex<Served>>>) -> Response {
    let mut served = served.lock().unwrap();
    served.followed += 1;
    let Answer::Redirect(keys) = &served.answer else {
        return StatusCode::NOT_FOUND.into_response();
    };
    keys.clone().into_response()
}

/// The key set of these keys.
pub(super) fn key_set(keys: &[&SigningKey]) -> String {
    let keys: Vec<_> = keys
        .iter()
        .map(|key| serde_json::from_str::<Value>(&key.jwks()).unwrap()["keys"][0].clone())
        .collect();
    json!({ "keys": keys }).to_string()
}
