//! The API: its address, the bearer token, and requests.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use clap::Args;
use client::{Client, IdempotencyKey, Method, Pieces, ReportEvents, Request, Retry};
use contract::ReportId;
use serde::de::DeserializeOwned;

use super::error::ApiError;
#[cfg(feature = "dev")]
use crate::arguments::StackDir;
use crate::arguments::TokenArgument;

/// Limit for an answer, and for the head of a longer one.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The API to use.
#[derive(Debug, Clone, Args)]
pub(crate) struct ApiArguments {
    #[cfg(feature = "dev")]
    #[command(flatten)]
    dir: StackDir,
    /// URL of the API.
    #[cfg_attr(
        feature = "dev",
        doc = "Without it, the command uses the development stack in DIR and its teller's token."
    )]
    #[arg(long = "api", value_name = "URL", env = "PASSBOOK_API_URL")]
    url: Option<String>,
    #[command(flatten)]
    token: TokenArgument,
    /// PEM file of the certificate authority of the API. Without it, those of this machine are
    /// trusted.
    #[arg(long, value_name = "FILE", env = "PASSBOOK_API_CA")]
    api_ca: Option<PathBuf>,
}

/// The API, whose errors say what to do.
pub(super) struct Api(Client);

impl ApiArguments {
    /// The API at the given URL or, without a URL, of the development stack.
    ///
    /// # Errors
    /// When no URL is given and no development stack runs, or an argument is malformed. The error
    /// does not contain the token.
    pub(super) fn api(&self) -> Result<Api> {
        let (url, token) = match &self.url {
            Some(url) => (url.clone(), self.token.token.clone().unwrap_or_default()),
            None => self.development_stack()?,
        };
        let read = |path: &PathBuf| fs::read(path).with_context(|| path.display().to_string());
        let authorities = self.api_ca.as_ref().map(read).transpose()?;
        let mut builder = Client::builder(url.trim(), token.trim());
        if let Some(pem) = &authorities {
            builder = builder.certificate_authorities(pem);
        }
        let client = builder.timeout(TIMEOUT).retry(Retry::NEVER).build();
        Ok(Api(client.map_err(ApiError::from)?))
    }

    #[cfg(feature = "dev")]
    fn development_stack(&self) -> Result<(String, String)> {
        let stack = self.dir.running_stack().context("no URL of the API is given")?;
        Ok((stack.api, self.token.token.clone().unwrap_or(stack.tokens.teller)))
    }

    #[cfg(not(feature = "dev"))]
    fn development_stack(&self) -> Result<(String, String)> {
        anyhow::bail!("no URL of the API is given: set PASSBOOK_API_URL or give --api")
    }
}

impl Api {
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        self.call(&Request::get(path)).await
    }

    /// Sends a POST without a body, with the key, if there is one.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        key: Option<&IdempotencyKey>,
    ) -> Result<T, ApiError> {
        let request = Request::new(Method::POST, path);
        self.call(&key.into_iter().fold(request, Request::key)).await
    }

    pub(super) async fn call<T: DeserializeOwned>(&self, request: &Request) -> Result<T, ApiError> {
        Ok(self.0.call(request).await?)
    }

    /// The successful answer to a GET, piece by piece.
    pub(super) async fn stream(&self, path: &str) -> Result<Pieces, ApiError> {
        Ok(self.0.stream(&Request::get(path)).await?)
    }

    pub(super) async fn follow(&self, id: ReportId) -> Result<ReportEvents, ApiError> {
        Ok(self.0.follow_report(id).await?)
    }
}
