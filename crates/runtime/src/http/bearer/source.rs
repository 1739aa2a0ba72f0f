//! The source of a JSON Web Key Set: a URL or a file.

use std::{
    fs::File,
    io::Read,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, anyhow, bail, ensure};
use axum::http::{StatusCode, Uri};
use http_body_util::{BodyExt, Limited};

use super::jwks::LARGEST;
use crate::http::client::{HttpClient, parse_url};

/// Time limit of a fetch.
pub(super) const FETCH_LIMIT: Duration = Duration::from_secs(5);

pub(super) enum Source {
    Url(Box<HttpClient>),
    File(PathBuf),
}

/// Parses a setting: an `https` URL, or an `http` URL of this machine.
///
/// # Errors
/// A sentence without the URL, because a URL can contain a secret.
pub fn parse_jwks_url(text: &str) -> Result<Uri, String> {
    let url = parse_url(text)?;
    let host = url.host().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let is_local = host.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|address| address.is_loopback());
    if url.scheme_str() == Some("https") || is_local {
        return Ok(url);
    }
    Err("must be an https URL: over http, others could replace the keys".to_owned())
}

impl Source {
    /// The document. A URL must answer 200 itself: redirects are not followed.
    ///
    /// # Errors
    /// If it can't be had in time, or exceeds [`LARGEST`].
    pub(super) async fn read(&self) -> anyhow::Result<Vec<u8>> {
        match self {
            Self::Url(client) => tokio::time::timeout(FETCH_LIMIT, fetch(client))
                .await
                .unwrap_or_else(|_| bail!("no answer within {} s", FETCH_LIMIT.as_secs())),
            Self::File(path) => {
                let path = path.clone();
                tokio::task::spawn_blocking(move || read_file(&path)).await?
            }
        }
    }
}

async fn fetch(client: &HttpClient) -> anyhow::Result<Vec<u8>> {
    let response = client.get("application/json").await?;
    let status = response.status();
    ensure!(!status.is_redirection(), "it answered {status}; a redirect is not followed");
    ensure!(status == StatusCode::OK, "it answered {status}");
    let body = Limited::new(response.into_body(), usize::try_from(LARGEST)?).collect().await;
    Ok(body.map_err(|error| anyhow!("reading the answer: {error}"))?.to_bytes().into())
}

/// The document in a file.
///
/// # Errors
/// If the file can't be read, or exceeds [`LARGEST`].
pub(super) fn read_file(path: &Path) -> anyhow::Result<Vec<u8>> {
    let name = || path.display().to_string();
    let mut document = Vec::new();
    let file = File::open(path).with_context(name)?;
    let size = file.take(LARGEST + 1).read_to_end(&mut document).with_context(name)?;
    ensure!(u64::try_from(size)? <= LARGEST, "{}: larger than {LARGEST} bytes", name());
    Ok(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_fetched_over_https_except_from_this_machine() {
        for url in [
            "https://login.example.com/jwks.json",
            "http://localhost:8080/jwks",
            "http://127.0.0.1/jwks",
            "http://[::1]:80/jwks",
        ] {
            assert!(parse_jwks_url(url).is_ok(), "{url}");
        }
        for url in [
            "http://login.example.com/jwks.json",
            "http://127.0.0.1.example.com/jwks",
            "http://localhost.example.com/jwks",
            "http://10.0.0.1/jwks",
            "https://user:password@login.example.com/jwks",
            "ftp://localhost/jwks",
            "/jwks.json",
            "",
        ] {
            assert!(parse_jwks_url(url).is_err(), "{url}");
        }
    }
}
