//! The address of the API and the bearer token.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;
use http::Uri;

use super::client::Client;
#[cfg(feature = "dev")]
use crate::arguments::StackDir;
use crate::arguments::TokenArgument;

const FORM: &str = "the API's URL must have the form https://host or http://host:8080";

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

/// Address and token.
struct Address {
    url: String,
    token: Option<String>,
}

impl ApiArguments {
    /// A client of the API at the given URL or, without a URL, of the development stack.
    ///
    /// # Errors
    /// When no URL is given and no development stack runs, or an argument is malformed. The error
    /// does not contain the token.
    pub(super) fn client(&self) -> Result<Client> {
        let Address { url, token } = match &self.url {
            Some(url) => Address { url: url.clone(), token: self.token.token.clone() },
            None => self.development_stack()?,
        };
        Client::new(&parse_url(&url)?, token, self.api_ca.as_deref())
    }

    #[cfg(feature = "dev")]
    fn development_stack(&self) -> Result<Address> {
        let stack = self.dir.running_stack().context("no URL of the API is given")?;
        let token = self.token.token.clone().unwrap_or(stack.tokens.teller);
        Ok(Address { url: stack.api, token: Some(token) })
    }

    #[cfg(not(feature = "dev"))]
    fn development_stack(&self) -> Result<Address> {
        anyhow::bail!("no URL of the API is given: set PASSBOOK_API_URL or give --api")
    }
}

/// Checks a URL and removes a slash at its end.
fn parse_url(url: &str) -> Result<Uri> {
    let uri: Uri = url.trim().trim_end_matches('/').parse().context(FORM)?;
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    let has_user = uri.authority().is_none_or(|authority| authority.as_str().contains('@'));
    ensure!(is_http && !has_user && uri.query().is_none(), FORM);
    Ok(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_is_one_of_a_server() {
        for right in ["http://127.0.0.1:8080", "https://bank.example/", "https://bank.example/api"]
        {
            assert!(parse_url(right).is_ok(), "{right}");
        }
        for wrong in ["bank.example", "ftp://bank.example", "https://u:p@bank.example", "/", ""] {
            assert!(parse_url(wrong).is_err(), "{wrong}");
        }
        assert!(parse_url("https://bank.example/?x=1").is_err());
    }
}
