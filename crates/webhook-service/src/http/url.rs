//! Which URLs an endpoint may have. Its addresses are checked again at each connection: this is for
//! an early answer.

use std::net::{IpAddr, Ipv6Addr};

use axum::http::Uri;
use runtime::http::problem::{INVALID_FIELD, Problem};

use super::problems::URL_NOT_ALLOWED;
use crate::address::AddressGuard;

/// Maximum characters.
const LONGEST: usize = 2048;

/// The rules for URLs.
#[derive(Debug, Clone, Copy)]
pub struct UrlRules<'a> {
    pub guard: &'a AddressGuard,
    /// Whether `http` is allowed beside `https`.
    pub allow_http: bool,
}

impl UrlRules<'_> {
    /// Checks a URL.
    ///
    /// # Errors
    /// `invalid-field` or `webhook-url-not-allowed`
    pub fn check(self, text: &str) -> Result<(), Problem> {
        let invalid = || {
            let detail = format!(
                "url must be like https://host/path: at most {LONGEST} visible \
                                  ASCII characters, without a fragment."
            );
            INVALID_FIELD.because(detail).at("url")
        };
        let is_text = text.len() <= LONGEST && text.bytes().all(|byte| byte.is_ascii_graphic());
        // The parser drops a fragment.
        if !is_text || text.contains('#') {
            return Err(invalid());
        }
        let url: Uri = text.parse().map_err(|_| invalid())?;
        let scheme = url.scheme_str().ok_or_else(invalid)?;
        let authority = url.authority().ok_or_else(invalid)?;
        if authority.host().is_empty() {
            return Err(invalid());
        }
        let refused =
            |reason: &str| Err(URL_NOT_ALLOWED.because(format!("url {reason}.")).at("url"));
        if scheme != "https" && !(scheme == "http" && self.allow_http) {
            return refused("must begin with https");
        }
        if authority.as_str().contains('@') {
            return refused("must not have a user or password: verify the signatures instead");
        }
        // `Authority::port` gives none for a port that is no number.
        let place = authority.as_str().rsplit('@').next().unwrap_or_default();
        let port = match place.strip_prefix(authority.host()).unwrap_or_default() {
            "" => 443,
            port => {
                port.strip_prefix(':').and_then(|port| port.parse().ok()).ok_or_else(invalid)?
            }
        };
        // Other low ports belong to protocols that could take a request for their own.
        if port < 1024_u16 && ![80, 443].contains(&port) {
            return refused("must have the port 80, 443, or one from 1024 on");
        }
        let host = authority.host();
        let address = match host.strip_prefix('[') {
            Some(rest) => {
                let address = rest.strip_suffix(']').and_then(|v6| v6.parse::<Ipv6Addr>().ok());
                Some(IpAddr::V6(address.ok_or_else(invalid)?))
            }
            // The parser allows brackets anywhere.
            None if host.contains(['[', ']']) => return Err(invalid()),
            None => host.parse().ok(),
        };
        if address.is_some_and(|address| !self.guard.permits(address)) {
            return refused("must have a public address");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &str, allow_http: bool) -> &'static str {
        let guard = AddressGuard::default();
        match (UrlRules { guard: &guard, allow_http }).check(text) {
            Ok(()) => "fine",
            Err(problem) if problem.is(INVALID_FIELD) => "invalid",
            Err(_) => "refused",
        }
    }

    #[test]
    fn https_urls_of_public_hosts_are_accepted() {
        for text in [
            "https://example.com",
            "https://example.com/hooks?a=b&c=%20",
            "https://example.com:8443/",
            "https://1.1.1.1/",
            "https://[2606:4700::1111]/",
        ] {
            assert_eq!(kind(text, false), "fine", "{text}");
        }
        assert_eq!(kind("http://example.com:8080/", true), "fine");
    }

    #[test]
    fn others_are_not() {
        for text in [
            "http://example.com/",
            "ftp://example.com/",
            "https://user@example.com/",
            "https://user:password@example.com/",
            "https://example.com:25/",
            "https://127.0.0.1/",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://169.254.169.254/latest",
        ] {
            assert_eq!(kind(text, false), "refused", "{text}");
        }
        for text in [
            "",
            "example.com",
            "/path",
            "https://",
            "https://a b/",
            "https://a/#f",
            "https://a/\r\nx: y",
            "https://ä.example/",
            "https://a:99999/",
            "https://169.254.1.1[]/",
            "https://[169.254.1.1]/",
            "https://a]/",
        ] {
            assert_eq!(kind(text, false), "invalid", "{text}");
        }
        assert_eq!(kind(&format!("https://a/{}", "a".repeat(2048)), false), "invalid");
    }
}
