//! The client of a language model: any endpoint with the chat completions of OpenAI.
//!
//! The endpoint is a third party. Its answer is limited in size and time, redirects
//! are not followed, and its error texts are not shown.

use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use backon::{ExponentialBuilder, Retryable};
use bytes::Bytes;
use clap::Args;
use http::{
    HeaderValue, Request, StatusCode, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use runtime::setting::{Secret, parse_duration};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::prompt::Conversation;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The language model that writes the analysis. Without a base URL, a model and a key, the rules
/// of this program write it, and no figure leaves the process.
#[derive(Debug, Clone, Args)]
pub struct LlmConfig {
    /// Base URL of an OpenAI-compatible API, such as `https://api.example.com/v1`.
    #[arg(long, env = "PASSBOOK_LLM_BASE_URL", value_name = "URL")]
    pub llm_base_url: Option<String>,
    /// Name of the model.
    #[arg(long, env = "PASSBOOK_LLM_MODEL", value_name = "NAME")]
    pub llm_model: Option<String>,
    /// API key, sent as a bearer token. Set the variable, not the flag.
    #[arg(long, env = "PASSBOOK_LLM_API_KEY", hide_env_values = true, value_name = "KEY")]
    pub llm_api_key: Option<Secret>,
    /// Time limit for one answer.
    #[arg(long, env = "PASSBOOK_LLM_TIMEOUT", value_parser = parse_duration, value_name = "DURATION", default_value = "60s")]
    pub llm_timeout: Duration,
    /// Maximum tokens of an answer.
    #[arg(long, env = "PASSBOOK_LLM_MAX_TOKENS", default_value_t = 1500,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub llm_max_tokens: u32,
    /// How often a request is repeated if the endpoint is unreachable, too slow, busy (429) or
    /// failing (5xx).
    #[arg(long, env = "PASSBOOK_LLM_RETRIES", default_value_t = 2,
          value_parser = clap::value_parser!(u32).range(..=10))]
    pub llm_retries: u32,
    /// Maximum bytes of a response.
    #[arg(long, env = "PASSBOOK_LLM_MAX_RESPONSE_BYTES", default_value_t = 1_048_576)]
    pub llm_max_response_bytes: usize,
}

impl LlmConfig {
    /// The client, if a model is configured.
    ///
    /// # Errors
    /// If only some of base URL, model and key are set, or the URL is invalid. The
    /// error shows neither the URL nor the key.
    pub fn client(&self) -> anyhow::Result<Option<LanguageModel>> {
        let text = |setting: &Option<String>| {
            setting.as_deref().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let key = self.llm_api_key.as_ref().filter(|key| !key.expose().trim().is_empty());
        let (base, model, key) = match (text(&self.llm_base_url), text(&self.llm_model), key) {
            (Some(base), Some(model), Some(key)) => (base, model, key.clone()),
            (None, None, None) => return Ok(None),
            _ => bail!(
                "set all or none of PASSBOOK_LLM_BASE_URL, PASSBOOK_LLM_MODEL, PASSBOOK_LLM_API_KEY"
            ),
        };
        let key = HeaderValue::from_str(&format!("Bearer {}", key.expose().trim()));
        let mut key =
            key.map_err(|_| anyhow!("PASSBOOK_LLM_API_KEY must be visible ASCII text"))?;
        key.set_sensitive(true);
        Ok(Some(LanguageModel {
            http: http_client()?,
            endpoint: endpoint(&base)?,
            model,
            key,
            timeout: self.llm_timeout,
            max_tokens: self.llm_max_tokens,
            retries: usize::try_from(self.llm_retries)?,
            max_response: self.llm_max_response_bytes,
        }))
    }
}

/// A configured language model.
#[derive(Debug)]
pub struct LanguageModel {
    http: HttpClient,
    endpoint: Uri,
    model: String,
    /// The value of the header. It is sensitive: `Debug` does not show it.
    key: HeaderValue,
    timeout: Duration,
    max_tokens: u32,
    retries: usize,
    max_response: usize,
}

type HttpClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Why there is no answer. Completes a sentence about the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoAnswer {
    #[error("was not reached")]
    Unreachable,
    #[error("did not answer in time")]
    TimedOut,
    #[error("answered with the status {}", .0.as_u16())]
    Status(StatusCode),
    #[error("answered with more bytes than allowed")]
    TooLarge,
    #[error("did not answer with a chat completion")]
    Invalid,
    #[error("reached the maximum number of tokens")]
    Truncated,
}

impl NoAnswer {
    /// Whether the same request can succeed later.
    fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable | Self::TimedOut => true,
            Self::Status(status) => {
                status.is_server_error()
                    || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(status)
            }
            Self::TooLarge | Self::Invalid | Self::Truncated => false,
        }
    }
}

#[derive(Serialize)]
struct Question<'a> {
    model: &'a str,
    messages: &'a Conversation,
    max_tokens: u32,
}

#[derive(Deserialize)]
struct Completion {
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    message: Content,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Content {
    content: Option<String>,
}

impl LanguageModel {
    /// The configured name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.model
    }

    /// The model's next message. Transient failures are retried.
    pub(super) async fn ask(&self, conversation: &Conversation) -> Result<String, NoAnswer> {
        let pauses = ExponentialBuilder::new()
            .with_jitter()
            .with_min_delay(FIRST_PAUSE)
            .with_max_delay(LONGEST_PAUSE)
            .with_max_times(self.retries);
        (|| self.ask_once(conversation)).retry(pauses).when(NoAnswer::is_transient).await
    }

    async fn ask_once(&self, conversation: &Conversation) -> Result<String, NoAnswer> {
        let exchange = timeout(self.timeout, self.exchange(conversation));
        let body = exchange.await.unwrap_or(Err(NoAnswer::TimedOut))?;
        let completion: Completion =
            serde_json::from_slice(&body).map_err(|_| NoAnswer::Invalid)?;
        let choice = completion.choices.into_iter().next().ok_or(NoAnswer::Invalid)?;
        if choice.finish_reason.as_deref() == Some("length") {
            return Err(NoAnswer::Truncated);
        }
        choice.message.content.ok_or(NoAnswer::Invalid)
    }

    /// Sends a request, and receives the whole body of the response.
    async fn exchange(&self, conversation: &Conversation) -> Result<Bytes, NoAnswer> {
        let question =
            Question { model: &self.model, messages: conversation, max_tokens: self.max_tokens };
        let body = serde_json::to_vec(&question).map_err(|_| NoAnswer::Invalid)?;
        let request = Request::post(&self.endpoint)
            .header(AUTHORIZATION, &self.key)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(body))
            .map_err(|_| NoAnswer::Unreachable)?;
        let response = self.http.request(request).await.map_err(|_| NoAnswer::Unreachable)?;
        if response.status() != StatusCode::OK {
            return Err(NoAnswer::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), self.max_response).collect().await;
        body.map(|body| body.to_bytes()).map_err(|error| {
            if error.is::<LengthLimitError>() { NoAnswer::TooLarge } else { NoAnswer::Unreachable }
        })
    }
}

fn endpoint(base: &str) -> anyhow::Result<Uri> {
    const FORM: &str = "PASSBOOK_LLM_BASE_URL must be like https://api.example.com/v1";
    let endpoint = format!("{}/chat/completions", base.trim_end_matches('/'));
    let uri: Uri = endpoint.parse().map_err(|_| anyhow!(FORM))?;
    let host = uri.authority().filter(|authority| !authority.as_str().contains('@'));
    ensure!(matches!(uri.scheme_str(), Some("http" | "https")) && host.is_some(), FORM);
    ensure!(!base.contains(['?', '#']), FORM);
    // `https:///chat/completions` has no host, but is not refused everywhere.
    ensure!(host.is_some_and(|host| !host.host().is_empty()), FORM);
    Ok(uri)
}

/// A client with the machine's root certificates. It follows no redirects, and uses no
/// proxy: both would take the figures elsewhere.
fn http_client() -> anyhow::Result<HttpClient> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let connector = HttpsConnectorBuilder::new()
        .with_native_roots()
        .context("the root certificates of this machine, for PASSBOOK_LLM_BASE_URL")?
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    Ok(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector))
}
