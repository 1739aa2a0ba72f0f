//! The analysis with an endpoint that speaks the protocol of a language model.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;

const RIGHT: &str = "EUR deposits were 1,236.\n\nAccount 1 of EUR moved 90,000.00 EUR.";
const WRONG: &str = "EUR deposits were 1,300, or half.";
const KEY: &str = "key-7f3a";

/// What the endpoint does with a request.
#[derive(Clone)]
enum Act {
    /// A completion with this text.
    Say(&'static str),
    Status(u16),
    /// This body, with status 200.
    Body(String),
    /// Never an answer.
    Silent,
    /// A redirect to itself.
    Redirect,
}

/// The header with the key, and the body.
type Received = (Option<String>, String);

/// The endpoint: one act a request, the last one again and again.
#[derive(Clone)]
struct Endpoint {
    acts: Arc<Mutex<Vec<Act>>>,
    requests: Arc<Mutex<Vec<Received>>>,
}

impl Endpoint {
    async fn start(acts: &[Act]) -> (Self, LlmConfig) {
        let endpoint = Self {
            acts: Arc::new(Mutex::new(acts.iter().rev().cloned().collect())),
            requests: Arc::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/v1/", listener.local_addr().unwrap());
        let router =
            Router::new().route("/v1/chat/completions", post(answer)).with_state(endpoint.clone());
        tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
        let config = LlmConfig {
            llm_base_url: Some(base),
            llm_model: Some("test-model".to_owned()),
            llm_api_key: Some(KEY.parse().unwrap()),
            llm_timeout: Duration::from_millis(500),
            llm_max_tokens: 700,
            llm_retries: 1,
            llm_max_response_bytes: 10_000,
        };
        (endpoint, config)
    }

    fn bodies(&self) -> Vec<Value> {
        let requests = self.requests.lock().unwrap();
        requests.iter().map(|(_, body)| serde_json::from_str(body).unwrap()).collect()
    }
}

async fn answer(State(endpoint): State<Endpoint>, headers: HeaderMap, body: String) -> Response {
    let key = headers.get(header::AUTHORIZATION).map(|key| key.to_str().unwrap().to_owned());
    endpoint.requests.lock().unwrap().push((key, body));
    let act = {
        let mut acts = endpoint.acts.lock().unwrap();
        if acts.len() > 1 { acts.pop() } else { acts.last().cloned() }.unwrap()
    };
    match act {
        Act::Say(text) => {
            let message = json!({"role": "assistant", "content": text});
            let choice = json!({"index": 0, "message": message, "finish_reason": "stop"});
            axum::Json(json!({"id": "1", "choices": [choice]})).into_response()
        }
        Act::Status(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Act::Body(body) => body.into_response(),
        Act::Silent => std::future::pending().await,
        Act::Redirect => {
            let to = [(header::LOCATION, "/v1/chat/completions")];
            (StatusCode::TEMPORARY_REDIRECT, to).into_response()
        }
    }
}

async fn analysis(acts: &[Act]) -> (Analysis, Endpoint) {
    let (endpoint, config) = Endpoint::start(acts).await;
    let model = config.client().unwrap().unwrap();
    (analyse(&sample::activity(), Some(&model)).await, endpoint)
}

fn assert_by_rules(analysis: &Analysis, reason: &str) {
    assert_eq!((analysis.source, &analysis.model), (AnalysisSource::Rules, &None));
    let note = format!("Written by rules, because the language model test-model {reason}.");
    assert_eq!(analysis.note.as_ref(), Some(&note));
    assert_eq!(analysis.paragraphs, rules::paragraphs(&Digest::of(&sample::activity())));
}

#[tokio::test]
async fn a_right_text_of_the_model_is_taken() {
    let (analysis, endpoint) = analysis(&[Act::Say(RIGHT)]).await;
    assert_eq!(analysis.source, AnalysisSource::Model);
    assert_eq!(analysis.model.as_deref(), Some("test-model"));
    assert_eq!(analysis.note, None);
    let paragraphs = ["EUR deposits were 1,236.", "Account 1 of EUR moved 90,000.00 EUR."];
    assert_eq!(analysis.paragraphs, paragraphs);
    assert_eq!(endpoint.requests.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn the_model_is_told_figures_and_no_ids() {
    let activity = sample::activity();
    let (endpoint, config) = Endpoint::start(&[Act::Say(RIGHT)]).await;
    analyse(&activity, config.client().unwrap().as_ref()).await;
    let (key, body) = endpoint.requests.lock().unwrap().first().unwrap().clone();
    assert_eq!(key, Some(format!("Bearer {KEY}")));
    let request: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&request["model"], &request["max_tokens"]), (&json!("test-model"), &json!(700)));
    let figures = request["messages"][1]["content"].as_str().unwrap();
    assert!(figures.contains("123456.70") && figures.contains("INSUFFICIENT_FUNDS"));
    let mut ids: Vec<String> = vec!["987654321".to_owned(), KEY.to_owned(), activity.issuer];
    ids.extend(activity.largest_accounts.iter().map(|account| account.account_id.to_string()));
    for entry in &activity.unusual.items {
        ids.extend([entry.account_id.to_string(), entry.record_id.to_string()]);
    }
    for id in ids {
        assert!(!body.contains(&id), "{id}");
    }
}

#[tokio::test]
async fn the_model_is_asked_once_more_after_wrong_numbers() {
    let (analysis, endpoint) = analysis(&[Act::Say(WRONG), Act::Say(RIGHT)]).await;
    assert_eq!(analysis.source, AnalysisSource::Model);
    let bodies = endpoint.bodies();
    let [_, _, said, objection] = bodies[1]["messages"].as_array().unwrap().as_slice() else {
        panic!("{bodies:?}")
    };
    assert_eq!(*said, json!({"role": "assistant", "content": WRONG}));
    let objection = objection["content"].as_str().unwrap();
    assert!(objection.contains("“1,300”, “half”"), "{objection}");
}

#[tokio::test]
async fn the_rules_write_after_two_texts_with_wrong_numbers() {
    let (analysis, endpoint) = analysis(&[Act::Say(WRONG)]).await;
    assert_by_rules(&analysis, "wrote numbers that are not in the figures: “1,300”, “half”");
    assert_eq!(endpoint.requests.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn the_rules_write_if_the_endpoint_fails() {
    let huge =
        format!("{{\"choices\":[{{\"message\":{{\"content\":\"{}\"}}}}]}}", "a".repeat(20_000));
    let cut = r#"{"choices":[{"message":{"content":"Some"},"finish_reason":"length"}]}"#;
    for (act, reason, requests) in [
        (Act::Status(500), "answered with the status 500", 2),
        (Act::Status(429), "answered with the status 429", 2),
        (Act::Status(401), "answered with the status 401", 1),
        (Act::Redirect, "answered with the status 307", 1),
        (Act::Silent, "did not answer in time", 2),
        (Act::Body(huge), "answered with more bytes than allowed", 1),
        (Act::Body("<html>".to_owned()), "did not answer with a chat completion", 1),
        (Act::Body("{\"choices\":[]}".to_owned()), "did not answer with a chat completion", 1),
        (Act::Body(cut.to_owned()), "reached the maximum number of tokens", 1),
        (Act::Say(""), "wrote nothing", 2),
    ] {
        let (analysis, endpoint) = analysis(&[act]).await;
        assert_by_rules(&analysis, reason);
        assert_eq!(endpoint.requests.lock().unwrap().len(), requests, "{reason}");
    }
}

#[tokio::test]
async fn a_failure_that_passes_is_retried() {
    let (analysis, endpoint) = analysis(&[Act::Status(503), Act::Say(RIGHT)]).await;
    assert_eq!(analysis.source, AnalysisSource::Model);
    assert_eq!(endpoint.requests.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_leaves_the_rules() {
    let (_, mut config) = Endpoint::start(&[Act::Silent]).await;
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    config.llm_base_url = Some(format!("http://{free}"));
    let model = config.client().unwrap();
    assert_by_rules(&analyse(&sample::activity(), model.as_ref()).await, "was not reached");
}

#[tokio::test]
async fn without_a_model_the_rules_write_and_nothing_is_noted() {
    let analysis = analyse(&sample::activity(), None).await;
    assert_eq!(
        (analysis.source, analysis.model, analysis.note),
        (AnalysisSource::Rules, None, None)
    );
    assert_eq!(analysis.paragraphs.len(), 6);
}

#[tokio::test]
async fn the_settings_of_a_model_are_complete_or_absent() {
    let (_, complete) = Endpoint::start(&[Act::Silent]).await;
    let none =
        LlmConfig { llm_base_url: None, llm_model: None, llm_api_key: None, ..complete.clone() };
    assert!(none.client().unwrap().is_none());
    let blank = LlmConfig {
        llm_base_url: Some(String::new()),
        llm_model: Some(" ".to_owned()),
        llm_api_key: Some("".parse().unwrap()),
        ..complete.clone()
    };
    assert!(blank.client().unwrap().is_none());
    let without_key = LlmConfig { llm_api_key: None, ..complete.clone() };
    assert!(without_key.client().is_err());
    for url in ["example.com", "ftp://example.com", "https://u:p@example.com", "https://"] {
        let invalid = LlmConfig { llm_base_url: Some(url.to_owned()), ..complete.clone() };
        let error = invalid.client().unwrap_err().to_string();
        assert!(error.starts_with("PASSBOOK_LLM_BASE_URL"), "{url}: {error}");
    }
}

#[tokio::test]
async fn neither_settings_nor_client_show_the_key() {
    let (_, config) = Endpoint::start(&[Act::Silent]).await;
    let text = format!("{config:?} {:?}", config.client().unwrap());
    assert!(!text.contains(KEY), "{text}");
}
