//! The client of a language model: any endpoint with the chat completions of OpenAI.
//!
//! The endpoint is a third party. Its answer is limited in size and time, redirects
//! are not followed, and its error texts are not shown.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, bail, ensure};
use backon::{ExponentialBuilder, Retryable};
use clap::Args;
use hyper_rustls::ConfigBuilderExt;
use reqwest::{Client, Response, StatusCode, Url, redirect::Policy};
use runtime::setting::{Secret, parse_duration};
use rustls::RootCertStore;
use serde::{Deserialize, Serialize};

use super::prompt::Conversation;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The language model that writes the analysis. Without a base URL, a model and a key, the rules
/// of this program write it, and no figure leaves the process.
#[derive(Debug, Clone, Args)]
pub struct LlmConfig {
    /// Base URL of an OpenAI-compatible API, such as https://api.example.com/v1.
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
        let endpoint = endpoint(&base)?;
        Ok(Some(LanguageModel {
            http: http_client(self.llm_timeout, endpoint.scheme() == "https")?,
            endpoint,
            model,
            key,
            max_tokens: self.llm_max_tokens,
            retries: usize::try_from(self.llm_retries)?,
            max_response: self.llm_max_response_bytes,
        }))
    }
}

/// A configured language model.
#[derive(Debug)]
pub struct LanguageModel {
    http: Client,
    endpoint: Url,
    model: String,
    key: Secret,
    max_tokens: u32,
    retries: usize,
    max_response: usize,
}

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

impl From<reqwest::Error> for NoAnswer {
    fn from(error: reqwest::Error) -> Self {
        if error.is_timeout() { Self::TimedOut } else { Self::Unreachable }
    }
}

#[derive(Serialize)]
struct Request<'a> {
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
        let request =
            Request { model: &self.model, messages: conversation, max_tokens: self.max_tokens };
        let sent = self.http.post(self.endpoint.clone()).bearer_auth(self.key.expose());
        let response = sent.json(&request).send().await?;
        if response.status() != StatusCode::OK {
            return Err(NoAnswer::Status(response.status()));
        }
        let body = self.body(response).await?;
        let completion: Completion =
            serde_json::from_slice(&body).map_err(|_| NoAnswer::Invalid)?;
        let choice = completion.choices.into_iter().next().ok_or(NoAnswer::Invalid)?;
        if choice.finish_reason.as_deref() == Some("length") {
            return Err(NoAnswer::Truncated);
        }
        choice.message.content.ok_or(NoAnswer::Invalid)
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, NoAnswer> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > self.max_response {
                return Err(NoAnswer::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

fn endpoint(base: &str) -> anyhow::Result<Url> {
    const FORM: &str = "PASSBOOK_LLM_BASE_URL must be like https://api.example.com/v1";
    let url: Url = base.parse().map_err(|_| anyhow::anyhow!(FORM))?;
    let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    ensure!(matches!(url.scheme(), "http" | "https") && url.has_host() && plain, FORM);
    format!("{}/chat/completions", base.trim_end_matches('/')).parse().context(FORM)
}

/// A client with the machine's root certificates. Redirects are not followed: they
/// would take the figures elsewhere.
fn http_client(timeout: Duration, is_https: bool) -> anyhow::Result<Client> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?;
    let tls = if is_https {
        tls.with_native_roots().context("the root certificates, for PASSBOOK_LLM_BASE_URL")?
    } else {
        // An image without root certificates can use an endpoint without TLS.
        tls.with_root_certificates(RootCertStore::empty())
    };
    let client = Client::builder()
        .tls_backend_preconfigured(tls.with_no_client_auth())
        .redirect(Policy::none())
        .connect_timeout(timeout.min(CONNECT_TIMEOUT))
        .timeout(timeout);
    client.build().context("the client of the language model")
}
